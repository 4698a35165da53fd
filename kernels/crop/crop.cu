// Aligned crops of faces; reference.py is the same in torch.
#include "common.cuh"

const int TILE = 16;  // px of a crop that a block makes, in each direction
const int CELLS = 28;  // that these reach at most, in each direction
const int THREADS = 256;  // as launch.py has them: one for each px
const int RGB = 1, NV12 = 2;  // of Face.kind; else there is no face

struct Plan {
    float to_cell[6];  // from px of the crop to cells of the region, which are its px or means of several
    int origin[2], px[2], cells[2];  // across, down: where the region begins in the frame, how large it is
};

struct Face {
    View first, second;  // uint8: (H, W, 3), or (H, W) and (h, w, 2)
    Plan plans[2];  // x_in, y
    float to_rgb[3][4];  // R, G, B: factors of Y, Cb, Cr; what is added
    int kind, batch, index, frame;
};

struct Cut {
    View x_in[2], y[2];  // of each batch (N, 3, S, S), (N, 3, S / 4, S / 4)
    unsigned long long faces;
    int x_in_blocks;  // of the grid's x; the rest: y
};

struct Rgb {
    float value[3];
};

__device__ inline float level(float value) { return fminf(fmaxf(value, 0.0f), 255.0f); }

__device__ inline float byte_at(const View &view, int row, int column, int k) {
    return (float)*at<unsigned char>(view, row, column, k, 0);
}

__device__ inline Rgb read_px(const Face &face, int row, int column) {
    Rgb px;
    if (face.kind == RGB) {
        for (int k = 0; k < 3; ++k) px.value[k] = byte_at(face.first, row, column, k);
        return px;
    }
    // a chroma sample lies in the middle of 2 x 2 px
    const Between v = between(0.5f * ((float)row - 0.5f), face.second.size[0]);
    const Between u = between(0.5f * ((float)column - 0.5f), face.second.size[1]);
    float chroma[2];
    for (int k = 0; k < 2; ++k) {
        const float above = (1.0f - u.share) * byte_at(face.second, v.first, u.first, k) +
                            u.share * byte_at(face.second, v.first, u.second, k);
        const float below = (1.0f - u.share) * byte_at(face.second, v.second, u.first, k) +
                            u.share * byte_at(face.second, v.second, u.second, k);
        chroma[k] = (1.0f - v.share) * above + v.share * below;
    }
    const float luma = byte_at(face.first, row, column, 0);
    for (int k = 0; k < 3; ++k) {
        const float *row_of = face.to_rgb[k];
        px.value[k] = level(row_of[0] * luma + row_of[1] * chroma[0] + row_of[2] * chroma[1] + row_of[3]);
    }
    return px;
}

// px of a line that a cell covers, the first and the last in part
struct Covered {
    float begin, end, side;
    int first, last;

    __device__ inline Covered(int cell, int px, int cells) {
        side = (float)px / (float)cells;
        begin = (float)cell * side;
        end = (float)(cell + 1) * side;
        first = (int)begin;
        last = (int)ceilf(end) < px ? (int)ceilf(end) - 1 : px - 1;
    }

    __device__ inline float share(int i) const {
        return (fminf(end, (float)(i + 1)) - fmaxf(begin, (float)i)) / side;
    }
};

// mean of what a cell covers
__device__ inline Rgb read_cell(const Face &face, const Plan &plan, int i, int j) {
    const Covered across(i, plan.px[0], plan.cells[0]), down(j, plan.px[1], plan.cells[1]);
    Rgb sum = {{0.0f, 0.0f, 0.0f}};
    for (int y = down.first; y <= down.last; ++y) {
        Rgb line = {{0.0f, 0.0f, 0.0f}};
        for (int x = across.first; x <= across.last; ++x) {
            const Rgb px = read_px(face, plan.origin[1] + y, plan.origin[0] + x);
            for (int k = 0; k < 3; ++k) line.value[k] += across.share(x) * px.value[k];
        }
        for (int k = 0; k < 3; ++k) sum.value[k] += down.share(y) * line.value[k];
    }
    return sum;
}

__device__ inline float mapped(const float *row, int x, int y) {
    return row[0] * (float)x + row[1] * (float)y + row[2];
}

// cells of a line, from first to last, that the px of a tile reach
struct Reach {
    int first, last;

    __device__ inline Reach(const float *row, int x0, int y0, int x1, int y1, int cells) {
        const float a = mapped(row, x0, y0), b = mapped(row, x1, y0), c = mapped(row, x0, y1), d = mapped(row, x1, y1);
        const float least = fminf(fminf(a, b), fminf(c, d)), most = fmaxf(fmaxf(a, b), fmaxf(c, d));
        const float end = (float)(cells - 1);
        first = (int)fminf(fmaxf(floorf(least) - 1.0f, 0.0f), end);
        last = (int)fminf(fmaxf(floorf(most) + 2.0f, 0.0f), end);
        last = last < first + CELLS ? last : first + CELLS - 1;
    }
};

// the four cells of a line around a position, as places in the tile's, and their weights
struct Taps {
    int place[4];
    float weight[4];

    __device__ inline Taps(float position, const Reach &reach) {
        const float whole = floorf(position);
        for (int i = 0; i < 4; ++i) {
            const float cell = whole + (float)(i - 1);
            place[i] = (int)fminf(fmaxf(cell, (float)reach.first), (float)reach.last) - reach.first;
            weight[i] = cubic(cell - position);
        }
    }
};

// A block makes a tile of one crop: first all cells that it reaches, then a px a thread.
template <class T>
__device__ inline void cut(const Cut &a) {
    __shared__ float cells[3][CELLS * CELLS];
    const Face &face = ((const Face *)a.faces)[blockIdx.y];
    if (face.kind != RGB && face.kind != NV12) return;
    const bool whole = (int)blockIdx.x < a.x_in_blocks;
    const View &out = whole ? a.x_in[face.batch] : a.y[face.batch];
    const Plan &plan = face.plans[whole ? 0 : 1];
    const int block = whole ? (int)blockIdx.x : (int)blockIdx.x - a.x_in_blocks;
    const int size = out.size[2], tiles = (size + TILE - 1) / TILE;
    if (block >= tiles * tiles) return;
    const int x0 = block % tiles * TILE, y0 = block / tiles * TILE;
    const int x1 = clamp(x0 + TILE - 1, 0, size - 1), y1 = clamp(y0 + TILE - 1, 0, size - 1);
    const Reach across(plan.to_cell, x0, y0, x1, y1, plan.cells[0]);
    const Reach down(plan.to_cell + 3, x0, y0, x1, y1, plan.cells[1]);
    const int wide = across.last - across.first + 1, high = down.last - down.first + 1;
    for (int i = (int)threadIdx.x; i < wide * high; i += THREADS) {
        const Rgb mean = read_cell(face, plan, across.first + i % wide, down.first + i / wide);
        for (int k = 0; k < 3; ++k) cells[k][i] = mean.value[k];
    }
    __syncthreads();
    const int x = x0 + (int)threadIdx.x % TILE, y = y0 + (int)threadIdx.x / TILE;
    if (x >= size || y >= size) return;
    const Taps columns(mapped(plan.to_cell, x, y), across), rows(mapped(plan.to_cell + 3, x, y), down);
    for (int k = 0; k < 3; ++k) {
        float sum = 0.0f;
        for (int j = 0; j < 4; ++j)
            for (int i = 0; i < 4; ++i)
                sum += rows.weight[j] * columns.weight[i] * cells[k][rows.place[j] * wide + columns.place[i]];
        store<T>(out, face.index, k, y, x, level(sum) / 127.5f - 1.0f);
    }
}

extern "C" __global__ void cut_f32(Cut a) { cut<float>(a); }

extern "C" __global__ void cut_f16(Cut a) { cut<f16>(a); }

extern "C" __global__ void cut_bf16(Cut a) { cut<bf16>(a); }
