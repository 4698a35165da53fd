// Motion between two crops of a face; reference.py is the same in torch.
#include "common.cuh"

const int THREADS = 256;  // as launch.py has them
const int COARSE = 16, FINE = 32;  // sides of the pictures that are compared
const int COARSE_WARPS = 3, FINE_WARPS = 2, STEPS = 10;
const int RADIUS = 2;  // of a window
const float LUMA_R = 0.299f, LUMA_G = 0.587f, LUMA_B = 0.114f;  // BT.601

struct Flow {
    View before, now;  // (N, 3, H, W), (B, 3, h, w)
    View flow, valid;  // float32: (B, 2, G, G), (B, 1, G, G)
    unsigned long long slots;  // B int32: which of before each of now is, below 0 none; or 0: its own
    float smoothness, misfit, agrees;
    float steps[STEPS];
};

struct Pair {
    float x, y;
};

// What a block keeps: luma before and now, and the motions there (from now to before) and back.
struct Kept {
    float fine[2][FINE * FINE], coarse[2][COARSE * COARSE];
    Pair flow[2][FINE * FINE];
    float change[2][FINE * FINE];  // what each motion leaves unexplained
};

// mean luma of what px (row, column) of FINE x FINE covers of a crop, in 0..255
template <class T>
__device__ inline float luma_mean(const View &crop, int index, int row, int column) {
    const int height = crop.size[2], width = crop.size[3];
    const int top = row * height / FINE, bottom = ((row + 1) * height + FINE - 1) / FINE;
    const int left = column * width / FINE, right = ((column + 1) * width + FINE - 1) / FINE;
    float sum = 0.0f;
    for (int y = top; y < bottom; ++y) {
        float line = 0.0f;
        for (int x = left; x < right; ++x)
            line += LUMA_R * load<T>(crop, index, 0, y, x) + LUMA_G * load<T>(crop, index, 1, y, x) +
                    LUMA_B * load<T>(crop, index, 2, y, x);
        sum += line;
    }
    return (sum / (float)((bottom - top) * (right - left)) + 1.0f) * 127.5f;
}

__device__ inline float mixed(float first, float second, float share) { return (1.0f - share) * first + share * second; }

__device__ inline float look_up(const float *picture, int side, float x, float y) {
    const Between u = between(x, side), v = between(y, side);
    const float *top = picture + v.first * side, *bottom = picture + v.second * side;
    return mixed(mixed(top[u.first], top[u.second], u.share), mixed(bottom[u.first], bottom[u.second], u.share), v.share);
}

__device__ inline Pair look_up(const Pair *flow, int side, float x, float y) {
    const Between u = between(x, side), v = between(y, side);
    const Pair *top = flow + v.first * side, *bottom = flow + v.second * side;
    const Pair a = top[u.first], b = top[u.second], c = bottom[u.first], d = bottom[u.second];
    return {mixed(mixed(a.x, b.x, u.share), mixed(c.x, d.x, u.share), v.share),
            mixed(mixed(a.y, b.y, u.share), mixed(c.y, d.y, u.share), v.share)};
}

// Least squares of one window: xx, xy, yy of the gradient, and what the px asks for apart from its neighbours.
struct Normal {
    float xx, xy, yy;
    Pair data;
};

// how much of a position is inside a line
__device__ inline float inside(float position, int side) {
    const float most = (float)(side - 1);
    return fmaxf(1.0f - fabsf(position - fminf(fmaxf(position, 0.0f), most)), 0.0f);
}

// of px (column, row): means over the px around it
__device__ inline Normal normal_of(const float *picture, const float *change, int side, int column, int row,
                                   const Pair &flow, float misfit) {
    float x = 0.0f, y = 0.0f, e = 0.0f, xx = 0.0f, xy = 0.0f, yy = 0.0f, xe = 0.0f, ye = 0.0f, ee = 0.0f;
    for (int j = -RADIUS; j <= RADIUS; ++j)
        for (int i = -RADIUS; i <= RADIUS; ++i) {
            const int v = clamp(row + j, 0, side - 1), u = clamp(column + i, 0, side - 1);
            const int above = clamp(v - 1, 0, side - 1), below = clamp(v + 1, 0, side - 1);
            const int left = clamp(u - 1, 0, side - 1), right = clamp(u + 1, 0, side - 1);
            const float across = 0.5f * (picture[v * side + right] - picture[v * side + left]);
            const float down = 0.5f * (picture[below * side + u] - picture[above * side + u]);
            const float error = change[v * side + u];
            x += across;
            y += down;
            e += error;
            xx += across * across;
            xy += across * down;
            yy += down * down;
            xe += across * error;
            ye += down * error;
            ee += error * error;
        }
    const float share = 1.0f / (float)((2 * RADIUS + 1) * (2 * RADIUS + 1));
    x *= share;
    y *= share;
    e *= share;
    const float fits = 1.0f / (1.0f + (ee * share - e * e) / (misfit * misfit));
    const float weight = fits * inside((float)column + flow.x, side) * inside((float)row + flow.y, side);
    Normal normal = {
        weight * (xx * share - x * x), weight * (xy * share - x * y), weight * (yy * share - y * y), {0.0f, 0.0f}};
    normal.data.x = normal.xx * flow.x + normal.xy * flow.y - weight * (xe * share - x * e);
    normal.data.y = normal.xy * flow.x + normal.yy * flow.y - weight * (ye * share - y * e);
    return normal;
}

// sum of the four neighbours; at the edge the px itself takes their place
__device__ inline Pair around(const Pair *flow, int side, int column, int row) {
    const Pair left = flow[row * side + (column > 0 ? column - 1 : 0)];
    const Pair right = flow[row * side + (column + 1 < side ? column + 1 : column)];
    const Pair above = flow[(row > 0 ? row - 1 : 0) * side + column];
    const Pair below = flow[(row + 1 < side ? row + 1 : row) * side + column];
    return {right.x + left.x + below.x + above.x, right.y + left.y + below.y + above.y};
}

__device__ inline Pair solved(const Normal &normal, const Pair &sum, float smoothness) {
    const float xx = normal.xx + 4.0f * smoothness, yy = normal.yy + 4.0f * smoothness;
    const float right = normal.data.x + smoothness * sum.x, left = normal.data.y + smoothness * sum.y;
    const float scale = 1.0f / (xx * yy - normal.xy * normal.xy);
    return {(yy * right - normal.xy * left) * scale, (xx * left - normal.xy * right) * scale};
}

// Both motions of pictures of SIDE x SIDE px, each thread at MINE of their px.
template <int SIDE, int WARPS>
__device__ inline void refine(const Flow &a, const float *before, const float *now, Kept &kept) {
    const int MINE = SIDE * SIDE / THREADS, thread = (int)threadIdx.x;
    const float *pictures[2] = {now, before};
    for (int warp = 0; warp < WARPS; ++warp) {
        #pragma unroll
        for (int way = 0; way < 2; ++way)
            #pragma unroll
            for (int i = 0; i < MINE; ++i) {
                const int px = thread + i * THREADS;
                const Pair flow = kept.flow[way][px];
                const float x = (float)(px % SIDE) + flow.x, y = (float)(px / SIDE) + flow.y;
                kept.change[way][px] = look_up(pictures[1 - way], SIDE, x, y) - pictures[way][px];
            }
        __syncthreads();
        Normal normal[2][MINE];
        Pair last[2][MINE];
        #pragma unroll
        for (int way = 0; way < 2; ++way)
            #pragma unroll
            for (int i = 0; i < MINE; ++i) {
                const int px = thread + i * THREADS;
                last[way][i] = kept.flow[way][px];
                normal[way][i] =
                    normal_of(pictures[way], kept.change[way], SIDE, px % SIDE, px / SIDE, last[way][i], a.misfit);
            }
        for (int step = 0; step < STEPS; ++step) {
            Pair next[2][MINE];
            #pragma unroll
            for (int way = 0; way < 2; ++way)
                #pragma unroll
                for (int i = 0; i < MINE; ++i) {
                    const int px = thread + i * THREADS;
                    const Pair sum = around(kept.flow[way], SIDE, px % SIDE, px / SIDE);
                    const Pair to = solved(normal[way][i], sum, a.smoothness), from = last[way][i];
                    next[way][i] = {from.x + a.steps[step] * (to.x - from.x),
                                    from.y + a.steps[step] * (to.y - from.y)};
                    last[way][i] = kept.flow[way][px];
                }
            __syncthreads();
            #pragma unroll
            for (int way = 0; way < 2; ++way)
                #pragma unroll
                for (int i = 0; i < MINE; ++i) kept.flow[way][thread + i * THREADS] = next[way][i];
            __syncthreads();
        }
    }
}

// the motions found in COARSE px, as a beginning for those in FINE px
__device__ inline void enlarge(Kept &kept) {
    const int MINE = FINE * FINE / THREADS, thread = (int)threadIdx.x;
    const float factor = (float)FINE / (float)COARSE;
    Pair enlarged[2][MINE];
    #pragma unroll
    for (int way = 0; way < 2; ++way)
        #pragma unroll
        for (int i = 0; i < MINE; ++i) {
            const int px = thread + i * THREADS;
            const float x = ((float)(px % FINE) + 0.5f) / factor - 0.5f, y = ((float)(px / FINE) + 0.5f) / factor - 0.5f;
            const Pair flow = look_up(kept.flow[way], COARSE, x, y);
            enlarged[way][i] = {factor * flow.x, factor * flow.y};
        }
    __syncthreads();
    #pragma unroll
    for (int way = 0; way < 2; ++way)
        #pragma unroll
        for (int i = 0; i < MINE; ++i) kept.flow[way][thread + i * THREADS] = enlarged[way][i];
    __syncthreads();
}

// px of a picture of half the side
__device__ inline float halved(const float *picture, int row, int column) {
    const float *from = picture + 2 * row * FINE + 2 * column;
    return 0.25f * (from[0] + from[1] + from[FINE] + from[FINE + 1]);
}

// by (1, 2, 1) / 4, of `picture` or of it halved
template <int SIDE>
__device__ inline float blurred(const float *picture, int row, int column) {
    float sum = 0.0f;
    for (int j = -1; j <= 1; ++j)
        for (int i = -1; i <= 1; ++i) {
            const int v = clamp(row + j, 0, SIDE - 1), u = clamp(column + i, 0, SIDE - 1);
            const float px = SIDE == FINE ? picture[v * SIDE + u] : halved(picture, v, u);
            sum += (i == 0 ? 2.0f : 1.0f) * (j == 0 ? 2.0f : 1.0f) * px;
        }
    return sum * 0.0625f;
}

template <class T>
__device__ inline void read_pictures(const Flow &a, int slot, int batch, Kept &kept) {
    const int thread = (int)threadIdx.x;
    float(*read)[FINE * FINE] = kept.change;  // for now
    for (int px = thread; px < FINE * FINE; px += THREADS) {
        read[0][px] = luma_mean<T>(a.before, slot, px / FINE, px % FINE);
        read[1][px] = luma_mean<T>(a.now, batch, px / FINE, px % FINE);
    }
    __syncthreads();
    for (int k = 0; k < 2; ++k) {
        for (int px = thread; px < FINE * FINE; px += THREADS)
            kept.fine[k][px] = blurred<FINE>(read[k], px / FINE, px % FINE);
        for (int px = thread; px < COARSE * COARSE; px += THREADS) {
            kept.coarse[k][px] = blurred<COARSE>(read[k], px / COARSE, px % COARSE);
            kept.flow[k][px] = {0.0f, 0.0f};
        }
    }
    __syncthreads();
}

// A block finds the motion of one face.
template <class T>
__device__ inline void find(const Flow &a) {
    __shared__ Kept kept;
    const int batch = (int)blockIdx.y, grid = a.flow.size[2];
    const int slot = a.slots ? ((const int *)a.slots)[batch] : batch;
    if (slot >= 0) {
        read_pictures<T>(a, slot, batch, kept);
        refine<COARSE, COARSE_WARPS>(a, kept.coarse[0], kept.coarse[1], kept);
        enlarge(kept);
        refine<FINE, FINE_WARPS>(a, kept.fine[0], kept.fine[1], kept);
    }
    const float factor = (float)grid / (float)FINE;
    for (int px = (int)threadIdx.x; px < grid * grid; px += THREADS) {
        const int row = px / grid, column = px % grid;
        Pair there = {0.0f, 0.0f};
        bool agrees = false;
        if (slot >= 0) {
            const float x = ((float)column + 0.5f) / factor - 0.5f, y = ((float)row + 0.5f) / factor - 0.5f;
            there = look_up(kept.flow[0], FINE, x, y);
            const Pair back = look_up(kept.flow[1], FINE, x + there.x, y + there.y);
            const float right = factor * (there.x + back.x), down = factor * (there.y + back.y);
            agrees = right * right + down * down < a.agrees * a.agrees;
        }
        store<float>(a.flow, batch, 0, row, column, factor * there.x);
        store<float>(a.flow, batch, 1, row, column, factor * there.y);
        store<float>(a.valid, batch, 0, row, column, agrees ? 1.0f : 0.0f);
    }
}

extern "C" __global__ void find_f32(Flow a) { find<float>(a); }

extern "C" __global__ void find_f16(Flow a) { find<f16>(a); }

extern "C" __global__ void find_bf16(Flow a) { find<bf16>(a); }
