// DGAF-VSR's optical guided warping module as one gather, and the memory that streamsr keeps with it.
// reference.py is the same in torch.
#include "common.cuh"

const int CHANNELS = 8;  // that one thread moves

struct Warp {
    View x, flow, out;  // (N, C, H, W), (B, 2, h, w) float32, (B, C, H, W)
    unsigned long long slots;  // B int32: which of x each of out comes from, below 0 none; or 0: its own
    float s;
};

struct Recall {
    View picture, features, y_past;  // (N, C, H, W) each
    View y, flow, valid;  // (B, C, H, W), (B, 2, h, w) float32, (B, 1, h, w) float32
    View out_picture, out_features, out_difference, out_mask;
    unsigned long long slots;
    float s, misfit;
    int picture_blocks, features_blocks;  // of the grid's x, in this order; the rest: difference and mask
};

struct Source {
    Between column, row;
};

__device__ inline int slot_of(unsigned long long slots, int batch) {
    return slots ? ((const int *)slots)[batch] : batch;
}

// a lookup that blends two px only in the middle 1/s between them
__device__ inline float steep(float position, float s) {
    const float whole = floorf(position);
    return whole + fminf(fmaxf((position - whole - 0.5f) * s + 0.5f, 0.0f), 1.0f);
}

// the middle of pixel i of a line of size px, in px of the same line divided into count
__device__ inline Between reduced(int i, int size, int count) {
    return between(((float)i + 0.5f) * ((float)count / (float)size) - 0.5f, count);
}

__device__ inline float blend(float a, float b, float c, float d, float right, float down) {
    const float above = (1.0f - right) * a + right * b, below = (1.0f - right) * c + right * d;
    return (1.0f - down) * above + down * below;
}

// where pixel (column, row) of a picture (height, width) was before
__device__ inline Source source(const View &flow, int batch, int row, int column, int height, int width, float s) {
    const Between v = reduced(row, height, flow.size[2]), u = reduced(column, width, flow.size[3]);
    float moved[2];
    for (int axis = 0; axis < 2; ++axis)
        moved[axis] = blend(
            load<float>(flow, batch, axis, v.first, u.first), load<float>(flow, batch, axis, v.first, u.second),
            load<float>(flow, batch, axis, v.second, u.first), load<float>(flow, batch, axis, v.second, u.second),
            u.share, v.share);
    const float x = (float)column + moved[0] * ((float)width / (float)flow.size[3]);
    const float y = (float)row + moved[1] * ((float)height / (float)flow.size[2]);
    return {between(steep(x, s), width), between(steep(y, s), height)};
}

template <class T>
__device__ inline float gather(const View &x, int slot, int channel, const Source &from) {
    return blend(
        load<T>(x, slot, channel, from.row.first, from.column.first),
        load<T>(x, slot, channel, from.row.first, from.column.second),
        load<T>(x, slot, channel, from.row.second, from.column.first),
        load<T>(x, slot, channel, from.row.second, from.column.second), from.column.share, from.row.share);
}

// Thread `index` of those of one picture: CHANNELS channels of a px. Neighbours in memory are neighbours here.
template <class T>
__device__ inline void
warp_one(const View &x, const View &flow, const View &out, unsigned long long slots, float s, int index) {
    const int channels = out.size[1], height = out.size[2], width = out.size[3], batch = (int)blockIdx.y;
    const int groups = (channels + CHANNELS - 1) / CHANNELS, pixels = height * width;
    if (index >= pixels * groups) return;
    const bool channels_last = out.stride[1] == 1;
    const int pixel = channels_last ? index / groups : index % pixels;
    const int group = channels_last ? index % groups : index / pixels;
    const int row = pixel / width, column = pixel % width, slot = slot_of(slots, batch);
    const Source from = source(flow, batch, row, column, height, width, s);
    const int end = group * CHANNELS + CHANNELS < channels ? group * CHANNELS + CHANNELS : channels;
    for (int channel = group * CHANNELS; channel < end; ++channel)
        store<T>(out, batch, channel, row, column, slot < 0 ? 0.0f : gather<T>(x, slot, channel, from));
}

// how far the two pictures are apart at a px, in one channel; the past as it is seen from here
template <class T>
__device__ inline float apart(const Recall &a, int slot, int batch, int channel, int row, int column,
                              const Source &from) {
    return load<T>(a.y, batch, channel, row, column) - gather<T>(a.y_past, slot, channel, from);
}

// mean of `valid` over what pixel (row, column) of (height, width) covers of it
__device__ inline float area_mean(const View &valid, int batch, int row, int column, int height, int width) {
    const int top = (int)((long long)row * valid.size[2] / height);
    const int bottom = (int)(((long long)(row + 1) * valid.size[2] + height - 1) / height);
    const int left = (int)((long long)column * valid.size[3] / width);
    const int right = (int)(((long long)(column + 1) * valid.size[3] + width - 1) / width);
    float sum = 0.0f;
    for (int y = top; y < bottom; ++y)
        for (int x = left; x < right; ++x) sum += load<float>(valid, batch, 0, y, x);
    return sum / (float)((bottom - top) * (right - left));
}

// difference and mask at one px: each thread looks up the nine px around its own
template <class T>
__device__ inline void compare_one(const Recall &a, int index) {
    const int channels = a.y.size[1], height = a.y.size[2], width = a.y.size[3], batch = (int)blockIdx.y;
    if (index >= height * width) return;
    const int row = index / width, column = index % width, slot = slot_of(a.slots, batch);
    const int top = clamp(row - 1, 0, height - 1), bottom = clamp(row + 1, 0, height - 1);
    const int left = clamp(column - 1, 0, width - 1), right = clamp(column + 1, 0, width - 1);
    const float share = 1.0f / (float)((bottom - top + 1) * (right - left + 1));
    float misfit = 0.0f;
    for (int first = 0; first < channels; first += 4) {  // positions are found anew for each four
        float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        for (int y = top; y <= bottom && slot >= 0; ++y)
            for (int x = left; x <= right; ++x) {
                const Source from = source(a.flow, batch, y, x, height, width, a.s);
                for (int k = 0; k < 4; ++k)
                    if (first + k < channels) sum[k] += apart<T>(a, slot, batch, first + k, y, x, from);
            }
        for (int k = 0; k < 4; ++k)
            if (first + k < channels) {
                store<T>(a.out_difference, batch, first + k, row, column, sum[k] * share);
                misfit += fabsf(sum[k] * share);
            }
    }
    misfit /= (float)channels * a.misfit;
    const float valid = slot < 0 ? 0.0f : area_mean(a.valid, batch, row, column, height, width);
    store<T>(a.out_mask, batch, 0, row, column, valid * expf(-misfit * misfit));
}

template <class T>
__device__ inline void recall_one(const Recall &a) {
    int block = (int)blockIdx.x;
    if (block < a.picture_blocks) {
        const int index = block * (int)blockDim.x + (int)threadIdx.x;
        return warp_one<T>(a.picture, a.flow, a.out_picture, a.slots, a.s, index);
    }
    block -= a.picture_blocks;
    const int index = block * (int)blockDim.x + (int)threadIdx.x;
    if (block < a.features_blocks)
        return warp_one<T>(a.features, a.flow, a.out_features, a.slots, a.s, index);
    compare_one<T>(a, index - a.features_blocks * (int)blockDim.x);
}

extern "C" __global__ void warp_f32(Warp a) {
    warp_one<float>(a.x, a.flow, a.out, a.slots, a.s, (int)(blockIdx.x * blockDim.x + threadIdx.x));
}

extern "C" __global__ void warp_f16(Warp a) {
    warp_one<f16>(a.x, a.flow, a.out, a.slots, a.s, (int)(blockIdx.x * blockDim.x + threadIdx.x));
}

extern "C" __global__ void warp_bf16(Warp a) {
    warp_one<bf16>(a.x, a.flow, a.out, a.slots, a.s, (int)(blockIdx.x * blockDim.x + threadIdx.x));
}

extern "C" __global__ void __launch_bounds__(256, 3) recall_f32(Recall a) { recall_one<float>(a); }

extern "C" __global__ void __launch_bounds__(256, 3) recall_f16(Recall a) { recall_one<f16>(a); }

extern "C" __global__ void __launch_bounds__(256, 3) recall_bf16(Recall a) { recall_one<bf16>(a); }
