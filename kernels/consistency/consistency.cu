// Residuals of faces pasted into output frames, projected onto the camera's px, and the certificate, in one pass.
// reference.py is the same in torch.
#include "common.cuh"

struct Face {  // faces.py's FACE
    float to_patch[6], to_mask[6];
    float shrink, mask_shrink, gain, weight, gamma_luma, gamma_chroma;
    int box[4];
    int patches, index;
};

struct Paste {
    View base, camera, out;  // uint8: (B, sH, sW, 3), (B, H, W, 3), (B, sH, sW, 3)
    View residual[2], mask[2];  // float32: (N, S, S, 3), (N, S, S)
    unsigned long long faces, first;  // Face; B + 1 int32
    unsigned long long sums;  // B x (squares before, most before, squares after, most after)
    int words;  // whether lines of base and out, and at scale 1 of camera, are packed and begin at multiples of 4
};

const int THREADS = 256;  // as launch.py has them
const float LUMA_R = 0.299f, LUMA_G = 0.587f, LUMA_B = 0.114f;  // BT.601

// Of the errors of blocks, each in units of 1 / denominator<SCALE>() levels: integers, so that sums are exact
// and do not depend on an order.
struct Tally {
    unsigned long long squares;
    unsigned most;
};

__device__ inline void count(Tally &tally, int error) {
    const unsigned size = (unsigned)(error < 0 ? -error : error);
    tally.squares += (unsigned long long)size * size;
    if (size > tally.most) tally.most = size;
}

__device__ inline float level(float value) { return rintf(fminf(fmaxf(value, 0.0f), 255.0f)); }

__device__ inline float tent(float x) { return fmaxf(1.0f - fabsf(x), 0.0f); }

// sum of the tent's weights of all px of an endless line: what it is divided by
__device__ inline float tent_sum(float centre, float shrink) {
    float sum = 0.0f;
    const int last = (int)floorf(centre + shrink);
    for (int i = (int)ceilf(centre - shrink); i <= last; ++i) sum += tent(((float)i - centre) / shrink);
    return sum;
}

// px of a line of size px that a filter reaches: from first to last
struct Reach {
    int first, last;
};

__device__ inline Reach reach_of(float centre, float radius, int size) {
    const float first = fmaxf(ceilf(centre - radius), 0.0f), last = fminf(floorf(centre + radius), (float)(size - 1));
    return {(int)fminf(first, (float)size), (int)fmaxf(last, -1.0f)};
}

// From this shrink on a filter is a tent as wide as a px of the output; below, the cubic.
const float TENT_FROM = 2.0f;

// what a px counts, by its distance
struct Filter {
    float shrink, tents;  // 1 / the sum of the tent's weights; 0: the cubic

    __device__ inline Filter(float centre, float shrink)
        : shrink(shrink), tents(shrink < TENT_FROM ? 0.0f : 1.0f / tent_sum(centre, shrink)) {}

    __device__ inline float operator()(float distance) const {
        return tents == 0.0f ? cubic(distance) : tents * tent(distance / shrink);
    }
};

struct At {
    float u, v;
};

__device__ inline At mapped(const float *matrix, int x, int y) {
    const float column = (float)x, row = (float)y;
    return {matrix[0] * column + matrix[1] * row + matrix[2], matrix[3] * column + matrix[4] * row + matrix[5]};
}

__device__ inline void
add_px(const View &mask, const View &residual, int index, int row, int column, float weight, float *value) {
    const float shown = weight * load<float>(mask, index, row, column, 0);
    for (int k = 0; k < 3; ++k) value[k] += shown * load<float>(residual, index, row, column, k);
}

// mask x residual of a face at a px of the output, in levels
__device__ inline void sample_residual(const Paste &a, const Face &face, int x, int y, float *value) {
    const View &residual = a.residual[face.patches], &mask = a.mask[face.patches];
    const At at = mapped(face.to_patch, x - face.box[0], y - face.box[1]);
    const int height = mask.size[1], width = mask.size[2];
    const bool near = face.shrink < TENT_FROM;
    const float radius = near ? 2.0f : face.shrink;
    const Filter wide(at.u, face.shrink), high(at.v, face.shrink);
    const Reach across = reach_of(at.u, radius, width), down = reach_of(at.v, radius, height);
    const int first = (int)floorf(fmaxf(at.u, -4.0f)) - 1;
    float four[4] = {};  // of the px from `first` on: all that the cubic reaches
    for (int i = 0; i < 4 && near; ++i)
        if (first + i >= 0 && first + i < width) four[i] = wide((float)(first + i) - at.u);
    value[0] = value[1] = value[2] = 0.0f;
    for (int j = down.first; j <= down.last; ++j) {
        const float line = high((float)j - at.v);
        if (near) {
            for (int i = 0; i < 4; ++i)
                if (four[i] != 0.0f) add_px(mask, residual, face.index, j, first + i, line * four[i], value);
        } else {
            for (int i = across.first; i <= across.last; ++i)
                add_px(mask, residual, face.index, j, i, line * wide((float)i - at.u), value);
        }
    }
    for (int k = 0; k < 3; ++k) value[k] *= face.gain * face.weight;
}

// a face's mask at a block of the output
__device__ inline float sample_mask(const Paste &a, const Face &face, int block_x, int block_y, int side) {
    const View &mask = a.mask[face.patches];
    const At at = mapped(face.to_mask, block_x - face.box[0] / side, block_y - face.box[1] / side);
    const float shrink = face.mask_shrink;
    const Reach across = reach_of(at.u, shrink, mask.size[2]), down = reach_of(at.v, shrink, mask.size[1]);
    float sum = 0.0f;
    for (int j = down.first; j <= down.last; ++j) {
        const float line = tent(((float)j - at.v) / shrink);
        for (int i = across.first; i <= across.last; ++i)
            sum += line * tent(((float)i - at.u) / shrink) * load<float>(mask, face.index, j, i, 0);
    }
    return sum > 0.0f ? face.weight * sum / (tent_sum(at.u, shrink) * tent_sum(at.v, shrink)) : 0.0f;
}

// what of a frame one block covers, in px, and its sums of colours
struct Block {
    int x0, y0, x1, y1;
    int sum[3];
};

template <int SCALE>
__device__ inline int block_side() {
    return SCALE == 1 ? 4 : SCALE;
}

// errors of blocks are whole in units of its inverse: at scale 1 a block cut by the edge has 1 to 4 px a side
template <int SCALE>
__device__ inline int denominator() {
    return SCALE == 1 ? 144 : SCALE * SCALE;
}

template <int SCALE>
__device__ inline int px_of(const Block &block) {
    return SCALE == 1 ? (block.x1 - block.x0) * (block.y1 - block.y0) : SCALE * SCALE;
}

// sum over the block of what the camera saw there
template <int SCALE>
__device__ inline void read_camera(const Paste &a, const Block &block, int *seen) {
    const int batch = (int)blockIdx.y;
    seen[0] = seen[1] = seen[2] = 0;
    if (SCALE == 1) {
        for (int y = block.y0; y < block.y1; ++y)
            for (int x = block.x0; x < block.x1; ++x)
                for (int k = 0; k < 3; ++k) seen[k] += *at<unsigned char>(a.camera, batch, y, x, k);
    } else {
        for (int k = 0; k < 3; ++k)
            seen[k] = SCALE * SCALE *
                      (int)*at<unsigned char>(a.camera, batch, block.y0 / SCALE, block.x0 / SCALE, k);
    }
}

template <int SCALE>
__device__ inline void count_block(Tally &tally, const Block &block, const int *seen) {
    for (int k = 0; k < 3; ++k)
        count(tally, (block.sum[k] - seen[k]) * (denominator<SCALE>() / px_of<SCALE>(block)));
}

__device__ inline bool touches(const Face &face, const Block &block) {
    return face.box[0] < block.x1 && block.x0 < face.box[2] && face.box[1] < block.y1 && block.y0 < face.box[3];
}

// base, and what the faces add to it, written to out
__device__ inline void paste_block(const Paste &a, const Face *faces, int first, int end, Block &block) {
    const int batch = (int)blockIdx.y;
    block.sum[0] = block.sum[1] = block.sum[2] = 0;
    for (int y = block.y0; y < block.y1; ++y)
        for (int x = block.x0; x < block.x1; ++x) {
            float value[3];
            for (int k = 0; k < 3; ++k) value[k] = (float)*at<unsigned char>(a.base, batch, y, x, k);
            for (int f = first; f < end; ++f) {
                if (!touches(faces[f], block)) continue;
                float more[3];
                sample_residual(a, faces[f], x, y, more);
                for (int k = 0; k < 3; ++k) value[k] = level(value[k] + more[k]);
            }
            for (int k = 0; k < 3; ++k) {
                *(unsigned char *)at<unsigned char>(a.out, batch, y, x, k) = (unsigned char)value[k];
                block.sum[k] += (int)value[k];
            }
        }
}

// Eq. (8), FLAIR: x <- x - gamma A+(A x - y), face by face
template <int SCALE>
__device__ inline void
project_block(const Paste &a, const Face *faces, int first, int end, Block &block, const int *seen) {
    const int batch = (int)blockIdx.y, side = block_side<SCALE>();
    for (int f = first; f < end; ++f) {
        const Face &face = faces[f];
        if (!touches(face, block) || (face.gamma_luma <= 0.0f && face.gamma_chroma <= 0.0f)) continue;
        const float shown = sample_mask(a, face, block.x0 / side, block.y0 / side, side);
        if (shown <= 0.0f) continue;
        float error[3], taken[3];
        for (int k = 0; k < 3; ++k)
            error[k] = (float)(block.sum[k] - seen[k]) / (float)px_of<SCALE>(block);
        const float luma = LUMA_R * error[0] + LUMA_G * error[1] + LUMA_B * error[2];
        for (int k = 0; k < 3; ++k) {
            taken[k] = shown * (face.gamma_chroma * error[k] + (face.gamma_luma - face.gamma_chroma) * luma);
            block.sum[k] = 0;
        }
        for (int y = block.y0; y < block.y1; ++y)
            for (int x = block.x0; x < block.x1; ++x)
                for (int k = 0; k < 3; ++k) {
                    unsigned char *px = (unsigned char *)at<unsigned char>(a.out, batch, y, x, k);
                    const float value = level((float)*px - taken[k]);
                    *px = (unsigned char)value;
                    block.sum[k] += (int)value;
                }
    }
}

// Sums of the bytes of `lines` lines of WIDE px, one below the other: two of 16 bits to a word, which hold up
// to eight lines. What is read is written to `to`, if that is another place.
template <int WIDE>
struct Columns {
    unsigned even[WIDE * 3 / 4], odd[WIDE * 3 / 4];

    __device__ inline Columns(const View &from, const View &to, int x, int y, int lines) : even{}, odd{} {
        for (int line = 0; line < lines; ++line) {
            const unsigned *words = (const unsigned *)at<unsigned char>(from, (int)blockIdx.y, y + line, x, 0);
            unsigned *copy = (unsigned *)at<unsigned char>(to, (int)blockIdx.y, y + line, x, 0);
            for (int i = 0; i < WIDE * 3 / 4; ++i) {
                const unsigned word = words[i];
                if (to.data != from.data) copy[i] = word;
                even[i] += word & 0x00ff00ffu;
                odd[i] += word >> 8 & 0x00ff00ffu;
            }
        }
    }

    // of each colour, over `count` px from px `first` on
    __device__ inline void add(int first, int count, int *sum) const {
        for (int i = 3 * first; i < 3 * (first + count); ++i) {
            const unsigned pair = i % 2 ? odd[i / 4] : even[i / 4];
            sum[i % 3] += (int)(i % 4 < 2 ? pair & 0xffffu : pair >> 16);
        }
    }
};

// Blocks with no face, WIDE px of them side by side, read in words of four bytes.
template <int SCALE, int WIDE>
__device__ inline void keep_blocks(const Paste &a, int x0, int y0, Tally &tally) {
    const int side = block_side<SCALE>();
    const Columns<WIDE> columns(a.base, a.out, x0, y0, side);
    for (int x = 0; x < WIDE; x += side) {
        Block block = {x0 + x, y0, x0 + x + side, y0 + side, {0, 0, 0}};
        columns.add(x, side, block.sum);
        int seen[3] = {0, 0, 0};
        if (SCALE == 1)
            Columns<WIDE>(a.camera, a.camera, x0, y0, side).add(x, side, seen);
        else
            read_camera<SCALE>(a, block, seen);
        count_block<SCALE>(tally, block, seen);
    }
}

// what all threads of the block have counted, added to the frame's
__device__ inline void add_up(const Paste &a, const Tally *tallies) {
    __shared__ unsigned long long squares[2][THREADS];
    __shared__ unsigned most[2][THREADS];
    const int thread = (int)threadIdx.x;
    for (int k = 0; k < 2; ++k) {
        squares[k][thread] = tallies[k].squares;
        most[k][thread] = tallies[k].most;
    }
    for (int left = THREADS / 8; left > 0; left /= 8) {  // 32, then 4
        __syncthreads();
        if (thread < left)
            for (int k = 0; k < 2; ++k)
                for (int i = thread + left; i < 8 * left; i += left) {
                    squares[k][thread] += squares[k][i];
                    if (most[k][i] > most[k][thread]) most[k][thread] = most[k][i];
                }
    }
    __syncthreads();
    if (thread < 2) {
        unsigned long long *sums = (unsigned long long *)a.sums + 4 * blockIdx.y + 2 * thread;
        unsigned long long total = 0;
        unsigned largest = 0;
        for (int i = 0; i < 4; ++i) {
            total += squares[thread][i];
            if (most[thread][i] > largest) largest = most[thread][i];
        }
        if (total) {
            atomicAdd(sums, total);
            atomicMax(sums + 1, (unsigned long long)largest);
        }
    }
}

// A thread takes the blocks of WIDE px side by side.
template <int SCALE>
__device__ inline void paste(const Paste &a) {
    const int WIDE = SCALE == 8 ? 8 : 4, side = block_side<SCALE>();
    const int height = a.out.size[1], width = a.out.size[2];
    const int across = (width + WIDE - 1) / WIDE, index = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    const int x0 = index % across * WIDE, y0 = index / across * side;
    Tally tallies[2] = {{0, 0}, {0, 0}};  // before and after the projection
    if (y0 < height) {
        const Face *faces = (const Face *)a.faces;
        const int first = ((const int *)a.first)[blockIdx.y], end = ((const int *)a.first)[blockIdx.y + 1];
        const Block all = {x0, y0, x0 + WIDE, y0 + side, {}};
        bool plain = a.words && all.x1 <= width && all.y1 <= height;
        for (int f = first; f < end && plain; ++f) plain = !touches(faces[f], all);
        if (plain) {
            keep_blocks<SCALE, WIDE>(a, x0, y0, tallies[0]);
            tallies[1] = tallies[0];
        } else {
            for (int x = x0; x < x0 + WIDE && x < width; x += side) {
                Block block = {x, y0, x + side < width ? x + side : width, y0 + side < height ? y0 + side : height,
                               {0, 0, 0}};
                int seen[3];
                read_camera<SCALE>(a, block, seen);
                paste_block(a, faces, first, end, block);
                count_block<SCALE>(tallies[0], block, seen);
                project_block<SCALE>(a, faces, first, end, block, seen);
                count_block<SCALE>(tallies[1], block, seen);
            }
        }
    }
    add_up(a, tallies);
}

extern "C" __global__ void paste_1(Paste a) { paste<1>(a); }

extern "C" __global__ void paste_2(Paste a) { paste<2>(a); }

extern "C" __global__ void paste_4(Paste a) { paste<4>(a); }

extern "C" __global__ void paste_8(Paste a) { paste<8>(a); }
