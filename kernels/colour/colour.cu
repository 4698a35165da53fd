// RGB to NV12; reference.py is the same in torch.
#include "common.cuh"

const int STRIP = 8;  // chroma rows of one thread
const int TAPS = 8;

struct Nv12 {
    View rgb, y, uv;  // uint8: (B, H, W, 3), (B, H, W), (B, ceil(H/2), ceil(W/2), 2)
    float table[3][4];  // Y, Cb, Cr: factors of R, G, B; what is added
    float taps[TAPS];
    int words;  // whether each line of rgb is packed and begins at a multiple of four bytes
    int pairs;  // whether two px of y, and the two values of a px of uv, lie at a multiple of two bytes
};

struct Rgb {
    float r, g, b;
};

struct Chroma {
    float cb, cr;
};

__device__ inline unsigned char byte_of(float value) { return (unsigned char)rintf(fminf(fmaxf(value, 0.0f), 255.0f)); }

__device__ inline float mixed(const float *row, const Rgb &px) {
    return row[0] * px.r + row[1] * px.g + row[2] * px.b + row[3];
}

// TAPS px of a line, from column `first` on; beyond the edge its px is repeated
__device__ inline void read_bytes(const Nv12 &a, int row, int first, Rgb *px) {
    for (int i = 0; i < TAPS; ++i) {
        const int column = clamp(first + i, 0, a.rgb.size[2] - 1);
        const unsigned char *from = at<unsigned char>(a.rgb, (int)blockIdx.y, row, column, 0);
        px[i] = {(float)from[0], (float)from[a.rgb.stride[3]], (float)from[2 * a.rgb.stride[3]]};
    }
}

// the same in words of four bytes; the line must hold the words that hold the px
__device__ inline void read_words(const Nv12 &a, int row, int first, Rgb *px) {
    const int begin = 3 * first, shift = 8 * (begin & 3);
    const unsigned *from =
        (const unsigned *)(at<unsigned char>(a.rgb, (int)blockIdx.y, row, 0, 0) + (begin & ~3));
    unsigned words[7], bytes[6];
    for (int i = 0; i < 7; ++i) words[i] = from[i];
    for (int i = 0; i < 6; ++i)
        bytes[i] = (unsigned)(((unsigned long long)words[i + 1] << 32 | words[i]) >> shift);
    for (int i = 0; i < TAPS; ++i) {
        float value[3];
        for (int k = 0; k < 3; ++k) {
            const int place = 3 * i + k;
            value[k] = (float)(bytes[place / 4] >> 8 * (place % 4) & 255u);
        }
        px[i] = {value[0], value[1], value[2]};
    }
}

// Row `row` around a chroma column, filtered across; its two px of luma are written if they are the thread's.
__device__ inline Chroma filtered_row(const Nv12 &a, int row, int column, bool words, bool own) {
    const int height = a.rgb.size[1], width = a.rgb.size[2], batch = (int)blockIdx.y;
    Rgb px[TAPS];
    const int seen = clamp(row, 0, height - 1), first = 2 * column - 3;
    if (words)
        read_words(a, seen, first, px);
    else
        read_bytes(a, seen, first, px);
    if (own && row < height) {
        unsigned char *to = (unsigned char *)at<unsigned char>(a.y, batch, row, 2 * column, 0);
        const unsigned char left = byte_of(mixed(a.table[0], px[3])), right = byte_of(mixed(a.table[0], px[4]));
        if (a.pairs && 2 * column + 1 < width) {
            *(unsigned short *)to = (unsigned short)(left | right << 8);
        } else {
            to[0] = left;
            if (2 * column + 1 < width) to[a.y.stride[2]] = right;
        }
    }
    Rgb sum = {0.0f, 0.0f, 0.0f};
    for (int i = 0; i < TAPS; ++i) {
        sum.r += a.taps[i] * px[i].r;
        sum.g += a.taps[i] * px[i].g;
        sum.b += a.taps[i] * px[i].b;
    }
    return {mixed(a.table[1], sum), mixed(a.table[2], sum)};
}

// A thread goes down one chroma column, two rows of px at a time: each of them counts for four rows of chroma.
extern "C" __global__ void __launch_bounds__(256, 3) nv12(Nv12 a) {
    const int width = a.uv.size[2], height = a.uv.size[1], batch = (int)blockIdx.y;
    const int index = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    const int column = index % width, top = index / width * STRIP;
    if (top >= height) return;
    const int bottom = top + STRIP < height ? top + STRIP : height;
    const int last = (3 * (2 * column - 3) & ~3) + 28;  // where the words read end
    const bool words = a.words && column >= 2 && last <= 3 * a.rgb.size[2];
    Chroma sums[4] = {};  // of chroma rows present - 1 to present + 2
    for (int present = top - 2; present <= bottom; ++present) {
        for (int i = 0; i < 2; ++i) {
            const int row = 2 * present + 1 + i;
            const Chroma line = filtered_row(a, row, column, words, row >= 2 * top && row < 2 * bottom);
            for (int k = 0; k < 4; ++k) {
                const float tap = a.taps[6 - 2 * k + i];
                sums[k].cb += tap * line.cb;
                sums[k].cr += tap * line.cr;
            }
        }
        if (present > top) {
            unsigned char *to = (unsigned char *)at<unsigned char>(a.uv, batch, present - 1, column, 0);
            const unsigned char cb = byte_of(sums[0].cb), cr = byte_of(sums[0].cr);
            if (a.pairs) {
                *(unsigned short *)to = (unsigned short)(cb | cr << 8);
            } else {
                to[0] = cb;
                to[a.uv.stride[3]] = cr;
            }
        }
        for (int k = 0; k < 3; ++k) sums[k] = sums[k + 1];
        sums[3] = {0.0f, 0.0f};
    }
}
