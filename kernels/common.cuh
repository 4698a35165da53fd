// What all kernels share. NVRTC compiles this (it has no standard headers), nvcc, and for the tests g++
// behind tests/kernel_host.h. CuPy flushes subnormal floats to zero: nothing here counts on them.
#pragma once

// A tensor of up to four dimensions; strides in elements. launch.py makes it of a torch tensor.
struct View {
    unsigned long long data;
    long long stride[4];
    int size[4];
};

struct f16 {
    unsigned short bits;
};

struct bf16 {
    unsigned short bits;
};

__device__ inline float to_float(float value) { return value; }

__device__ inline float to_float(bf16 value) { return __uint_as_float((unsigned)value.bits << 16); }

__device__ inline float to_float(f16 value) {
    const unsigned sign = (value.bits & 0x8000u) << 16, rest = (value.bits & 0x7fffu) << 13;
    const unsigned exponent = rest & 0x0f800000u;
    if (exponent == 0x0f800000u) return __uint_as_float(sign | 0x7f800000u | rest);  // infinite, or none
    const unsigned biased = rest + (112u << 23);
    if (exponent) return __uint_as_float(sign | biased);
    const float least = __uint_as_float(113u << 23);  // subnormal there, normal here
    return __uint_as_float(sign | __float_as_uint(__uint_as_float(biased + (1u << 23)) - least));
}

// to the nearest, half to even

__device__ inline void from_float(float value, float *out) { *out = value; }

__device__ inline void from_float(float value, bf16 *out) {
    const unsigned bits = __float_as_uint(value);
    if (value != value)
        out->bits = (unsigned short)(bits >> 16 | 0x40u);
    else
        out->bits = (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

__device__ inline void from_float(float value, f16 *out) {
    const unsigned bits = __float_as_uint(value), sign = bits >> 16 & 0x8000u;
    unsigned rest = bits & 0x7fffffffu;
    if (value != value)
        rest = 0x7e00u;
    else if (rest >= 0x47800000u)  // 65536
        rest = 0x7c00u;
    else if (rest < 0x38800000u)  // below 2^-14 it is subnormal: 0.5 + value has the same last place
        rest = __float_as_uint(__uint_as_float(rest) + 0.5f) - 0x3f000000u;
    else
        rest = (rest + 0xfffu + (rest >> 13 & 1u) - (112u << 23)) >> 13;
    out->bits = (unsigned short)(sign | rest);
}

template <class T>
__device__ inline const T *at(const View &view, int i, int j, int k, int l) {
    return (const T *)view.data + i * view.stride[0] + j * view.stride[1] + k * view.stride[2] +
           l * view.stride[3];
}

template <class T>
__device__ inline float load(const View &view, int i, int j, int k, int l) {
    return to_float(*at<T>(view, i, j, k, l));
}

template <class T>
__device__ inline void store(const View &view, int i, int j, int k, int l, float value) {
    from_float(value, (T *)at<T>(view, i, j, k, l));
}

__device__ inline int clamp(int value, int least, int most) {
    return value < least ? least : value > most ? most : value;
}

// Where a pixel of a line lies between two of another one, and how near to the second.
struct Between {
    int first, second;
    float share;
};

// position in px, kept within 0 and size - 1; one that is not a number counts as 0
__device__ inline Between between(float position, int size) {
    const float kept = fminf(fmaxf(position, 0.0f), (float)(size - 1));
    const int first = (int)kept;
    return {first, first + 1 < size ? first + 1 : first, kept - (float)first};
}

// A px's weight by its distance, as OpenCV's bicubic has it: a = -0.75.
__device__ inline float cubic(float x) {
    const float d = fabsf(x);
    if (d < 1.0f) return (1.25f * d - 2.25f) * d * d + 1.0f;
    return d < 2.0f ? ((-0.75f * d + 3.75f) * d - 6.0f) * d + 3.0f : 0.0f;
}
