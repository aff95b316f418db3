// Normalization: y = gamma (x - mean) / sqrt(var + eps) + beta, and its gradients.
//
//   batch norm        statistics of a channel, over all images          (N, C, S), one a channel
//   layer norm        of a row of features                              (rows, width)
//   group, instance   of a group of channels of one image               a row, too
//   RMS norm          y = gamma x / sqrt(mean x^2 + eps)                (rows, width)
//
// Mean and variance come from one pass over x, Welford's, four values at a time: a thread takes the
// mean of four and their squares about it, and merges that with what it has; threads merge with
// threads in the same way. A second pass for the variance would read memory twice, and
// E[x^2] - E[x]^2 loses every digit where the mean is large. All of it is done on x - x_first, the
// first value of the channel: where the mean is large against the deviations, this difference is
// exact, and so is the mean of it to all digits; where x_first is far off, nothing is lost, either.
//
// Source: Welford (1962), "Note on a method for calculating corrected sums of squares and
// products"; Chan, Golub, LeVeque (1983), "Algorithms for computing the sample variance", eq. 2.1.

struct Moments {
    A count, mean, squares;  // squares: the sum of squares about the mean
};
__device__ __forceinline__ Moments other_lane(Moments m, int offset) {
    return {other_lane(m.count, offset), other_lane(m.mean, offset), other_lane(m.squares, offset)};
}

struct Merge {
    __device__ Moments operator()(Moments a, Moments b) const {
        if (b.count == 0) return a;
        A count = a.count + b.count, share = b.count / count, apart = b.mean - a.mean;
        return {count, a.mean + apart * share,
                a.squares + b.squares + apart * apart * a.count * share};
    }
};

// The moments of x - shift at the next `visits` places of a walk.
__device__ Moments moments_of(const T* __restrict__ x, Walk walk, int visits, A shift) {
    Moments total = {0, 0, 0};
    for (; visits > 0; visits -= 4) {
        int few = min(visits, 4);
        A v[4], sum = 0, squares = 0;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            v[k] = k < few ? A(x[walk.place]) - shift : A(0);
            sum += v[k];
            walk.next();
        }
        A mean = sum / A(few);
#pragma unroll
        for (int k = 0; k < 4; k++)
            if (k < few) squares += (v[k] - mean) * (v[k] - mean);
        total = Merge()(total, {A(few), mean, squares});
    }
    return total;
}

struct Two {
    A a, b;
};
__device__ __forceinline__ Two other_lane(Two v, int offset) {
    return {other_lane(v.a, offset), other_lane(v.b, offset)};
}
struct AddTwo {
    __device__ Two operator()(Two p, Two q) const { return {p.a + q.a, p.b + q.b}; }
};

// ---- batch norm: one pass, or two where a channel is too long for one block --------------------

// Statistics of a channel, as they go out, and the running ones, which move towards them:
//     running = (1 - momentum) running + momentum batch,  the variance times bessel = m / (m - 1)
struct Statistics {
    A *mean, *var, *inv_std, *running_mean, *running_var;
    A eps, momentum, bessel;

    __device__ A inverse(Moments m) const { return A(1) / sqrt(m.squares / m.count + eps); }

    __device__ void keep(int c, A shift, Moments m) const {
        A batch_mean = shift + m.mean, batch_var = m.squares / m.count;
        mean[c] = batch_mean;
        var[c] = batch_var;
        inv_std[c] = inverse(m);
        if (running_mean)
            running_mean[c] = (A(1) - momentum) * running_mean[c] + momentum * batch_mean;
        if (running_var)
            running_var[c] = (A(1) - momentum) * running_var[c] + momentum * bessel * batch_var;
    }
};

// y = gamma (x - shift - mean) inv_std + beta at the places of a walk.
__device__ void normalize(const T* __restrict__ x, T* __restrict__ y, Walk walk, int visits,
                          A shift, A mean, A scale, A beta) {
    for (; visits > 0; visits--, walk.next())
        y[walk.place] = ((A(x[walk.place]) - shift) - mean) * scale + beta;
}

extern "C" __global__ void batch_norm(
    const T* __restrict__ x,              // [count * C]
    OPTIONAL const A* __restrict__ gamma,  // [C]
    OPTIONAL const A* __restrict__ beta,   // [C]
    T* __restrict__ y,                     // [count * C]
    A* __restrict__ mean,                  // [C]
    A* __restrict__ var,                   // [C]
    A* __restrict__ inv_std,               // [C]
    OPTIONAL A* __restrict__ running_mean,  // [C]
    OPTIONAL A* __restrict__ running_var,   // [C]
    int count, int C, int S, A eps, A momentum, A bessel) {
    __shared__ Moments slots[THREADS];
    Share share(count, count);
    int c = min(share.c, C - 1), visits = share.c < C ? share.visits : 0;
    Walk walk(share.first, share.step, c, C, S);
    A shift = x[(i64)c * S];
    Moments m = across_column(moments_of(x, walk, visits, shift), Merge(), slots);
    Statistics out = {mean, var, inv_std, running_mean, running_var, eps, momentum, bessel};
    if (share.c >= C) return;
    if (threadIdx.y == 0) out.keep(c, shift, m);
    A scale = out.inverse(m) * (gamma ? gamma[c] : A(1));
    normalize(x, y, walk, visits, shift, m.mean, scale, beta ? beta[c] : A(0));
}

// The first of two: every block's moments of its part of a channel.
extern "C" __global__ void batch_norm_moments(
    const T* __restrict__ x,        // [count * C]
    A* __restrict__ part_mean,      // [parts * C]
    A* __restrict__ part_squares,   // [parts * C]
    int count, int C, int S, int part, int parts) {
    __shared__ Moments slots[THREADS];
    Share share(count, part);
    int c = min(share.c, C - 1), visits = share.c < C ? share.visits : 0;
    Walk walk(share.first, share.step, c, C, S);
    Moments m = across_column(moments_of(x, walk, visits, A(x[(i64)c * S])), Merge(), slots);
    if (share.c < C && threadIdx.y == 0) {
        part_mean[(i64)blockIdx.y * C + c] = m.mean;
        part_squares[(i64)blockIdx.y * C + c] = m.squares;
    }
}

// The second: every block merges the moments of all parts, the same bits in each, and normalises its
// own part. The blocks of part 0 write the statistics.
extern "C" __global__ void batch_norm_normalize(
    const T* __restrict__ x,                  // [count * C]
    const A* __restrict__ part_mean,          // [parts * C]
    const A* __restrict__ part_squares,       // [parts * C]
    OPTIONAL const A* __restrict__ gamma,      // [C]
    OPTIONAL const A* __restrict__ beta,       // [C]
    T* __restrict__ y,                         // [count * C]
    A* __restrict__ mean,                      // [C]
    A* __restrict__ var,                       // [C]
    A* __restrict__ inv_std,                   // [C]
    OPTIONAL A* __restrict__ running_mean,      // [C]
    OPTIONAL A* __restrict__ running_var,       // [C]
    int count, int C, int S, int part, int parts, A eps, A momentum, A bessel) {
    __shared__ Moments slots[THREADS];
    Share share(count, part);
    int c = min(share.c, C - 1), p = threadIdx.y;
    Moments m = {0, 0, 0};
    if (p < parts) {
        i64 place = (i64)p * C + c;
        m = {A(min(part, count - p * part)), part_mean[place], part_squares[place]};
    }
    m = across_column(m, Merge(), slots);
    if (share.c >= C) return;
    A shift = x[(i64)c * S];
    Statistics out = {mean, var, inv_std, running_mean, running_var, eps, momentum, bessel};
    if (threadIdx.y == 0 && blockIdx.y == 0) out.keep(c, shift, m);
    A scale = out.inverse(m) * (gamma ? gamma[c] : A(1));
    normalize(x, y, Walk(share.first, share.step, c, C, S), share.visits, shift, m.mean, scale,
              beta ? beta[c] : A(0));
}

// y with given statistics; without a mean and beta, gamma / sqrt(var + eps) x.
extern "C" __global__ void batch_norm_inference(
    const T* __restrict__ x,              // [count * C]
    OPTIONAL const A* __restrict__ gamma,  // [C]
    OPTIONAL const A* __restrict__ beta,   // [C]
    OPTIONAL const A* __restrict__ mean,   // [C]
    const A* __restrict__ var,             // [C]
    T* __restrict__ y,                     // [count * C]
    int count, int C, int S, int part, A eps) {
    Share share(count, part);
    int c = share.c;
    if (c >= C) return;
    A scale = A(1) / sqrt(var[c] + eps) * (gamma ? gamma[c] : A(1));
    normalize(x, y, Walk(share.first, share.step, c, C, S), share.visits,
              mean ? mean[c] : A(0), A(0), scale, beta ? beta[c] : A(0));
}

// ---- batch norm, gradients ---------------------------------------------------------------------
//
//   dbeta = sum dy,  dgamma = sum dy x_hat,  x_hat = (x - mean) inv_std
//   dx = gamma inv_std (dy - dbeta / m - x_hat dgamma / m)
//
// mean and var are functions of every x of the channel; the two means are what flows through them.
// (Given statistics are constants: then dx = gamma inv_std dy is an inference without a mean.)

// sum dy and sum dy x_hat at the places of a walk.
__device__ Two sums_of(const T* __restrict__ grad, const T* __restrict__ x, Walk walk, int visits,
                       A mean, A inv_std) {
    Two sums = {0, 0};
    for (; visits > 0; visits--, walk.next()) {
        A dy = grad[walk.place];
        sums.a += dy;
        sums.b += dy * ((A(x[walk.place]) - mean) * inv_std);
    }
    return sums;
}

__device__ void input_gradient(const T* __restrict__ grad, const T* __restrict__ x,
                               T* __restrict__ dx, Walk walk, int visits, A mean, A inv_std,
                               A scale, Two means) {
    for (; visits > 0; visits--, walk.next()) {
        A x_hat = (A(x[walk.place]) - mean) * inv_std;
        dx[walk.place] = scale * ((A(grad[walk.place]) - means.a) - x_hat * means.b);
    }
}

extern "C" __global__ void batch_norm_backward(
    const T* __restrict__ grad,           // [count * C]
    const T* __restrict__ x,              // [count * C]
    OPTIONAL const A* __restrict__ gamma,  // [C]
    const A* __restrict__ mean,            // [C]
    const A* __restrict__ inv_std,         // [C]
    OPTIONAL T* __restrict__ dx,           // [count * C]
    OPTIONAL A* __restrict__ dgamma,       // [C]
    OPTIONAL A* __restrict__ dbeta,        // [C]
    int count, int C, int S) {
    __shared__ Two slots[THREADS];
    Share share(count, count);
    int c = min(share.c, C - 1), visits = share.c < C ? share.visits : 0;
    Walk walk(share.first, share.step, c, C, S);
    Two sums = sums_of(grad, x, walk, visits, mean[c], inv_std[c]);
    sums = across_column(sums, AddTwo(), slots);
    if (share.c >= C) return;
    if (threadIdx.y == 0 && dgamma) dgamma[c] = sums.b;
    if (threadIdx.y == 0 && dbeta) dbeta[c] = sums.a;
    A m = count;
    if (dx)
        input_gradient(grad, x, dx, walk, visits, mean[c], inv_std[c],
                       inv_std[c] * (gamma ? gamma[c] : A(1)), {sums.a / m, sums.b / m});
}

// The first of two: every block's sums of its part of a channel.
extern "C" __global__ void batch_norm_backward_sums(
    const T* __restrict__ grad,     // [count * C]
    const T* __restrict__ x,        // [count * C]
    const A* __restrict__ mean,     // [C]
    const A* __restrict__ inv_std,  // [C]
    A* __restrict__ part_dy,        // [parts * C]
    A* __restrict__ part_dy_x_hat,  // [parts * C]
    int count, int C, int S, int part, int parts) {
    __shared__ Two slots[THREADS];
    Share share(count, part);
    int c = min(share.c, C - 1), visits = share.c < C ? share.visits : 0;
    Walk walk(share.first, share.step, c, C, S);
    Two sums = sums_of(grad, x, walk, visits, mean[c], inv_std[c]);
    sums = across_column(sums, AddTwo(), slots);
    if (share.c < C && threadIdx.y == 0) {
        part_dy[(i64)blockIdx.y * C + c] = sums.a;
        part_dy_x_hat[(i64)blockIdx.y * C + c] = sums.b;
    }
}

// The second: every block adds up the sums of all parts and does its own part of dx.
extern "C" __global__ void batch_norm_backward_input(
    const T* __restrict__ grad,           // [count * C]
    const T* __restrict__ x,              // [count * C]
    OPTIONAL const A* __restrict__ gamma,  // [C]
    const A* __restrict__ mean,            // [C]
    const A* __restrict__ inv_std,         // [C]
    const A* __restrict__ part_dy,         // [parts * C]
    const A* __restrict__ part_dy_x_hat,   // [parts * C]
    OPTIONAL T* __restrict__ dx,           // [count * C]
    OPTIONAL A* __restrict__ dgamma,       // [C]
    OPTIONAL A* __restrict__ dbeta,        // [C]
    int count, int C, int S, int part, int parts) {
    __shared__ Two slots[THREADS];
    Share share(count, part);
    int c = min(share.c, C - 1), p = threadIdx.y;
    Two sums = {0, 0};
    if (p < parts) sums = {part_dy[(i64)p * C + c], part_dy_x_hat[(i64)p * C + c]};
    sums = across_column(sums, AddTwo(), slots);
    if (share.c >= C) return;
    if (threadIdx.y == 0 && blockIdx.y == 0 && dgamma) dgamma[c] = sums.b;
    if (threadIdx.y == 0 && blockIdx.y == 0 && dbeta) dbeta[c] = sums.a;
    A m = count;
    if (dx)
        input_gradient(grad, x, dx, Walk(share.first, share.step, c, C, S), share.visits, mean[c],
                       inv_std[c], inv_std[c] * (gamma ? gamma[c] : A(1)),
                       {sums.a / m, sums.b / m});
}

// ---- layer, group and instance norm: rows ------------------------------------------------------
//
// A row is what has one mean: `width` values that lie side by side. It holds the channels
// (r % groups) * (width / S) and following, S values each; for layer norm groups and S are 1, and a
// channel is a feature.

struct Row {
    int r, width, groups, S;
    __device__ Row(int width, int groups, int S)
        : r(blockIdx.x * blockDim.y + threadIdx.y), width(width), groups(groups), S(S) {}
    __device__ i64 start() const { return (i64)r * width; }
    __device__ int channel(int i) const { return r % groups * (width / S) + (S == 1 ? i : i / S); }
    __device__ int visits() const {
        int mine = threadIdx.x, step = blockDim.x;
        return mine < width ? (width - mine + step - 1) / step : 0;
    }
};

extern "C" __global__ void layer_norm(
    const T* __restrict__ x,              // [rows * width]
    OPTIONAL const A* __restrict__ gamma,  // [groups * width // S]
    OPTIONAL const A* __restrict__ beta,   // [groups * width // S]
    T* __restrict__ y,                     // [rows * width]
    A* __restrict__ mean,                  // [rows]
    A* __restrict__ var,                   // [rows]
    A* __restrict__ inv_std,               // [rows]
    int rows, int width, int groups, int S, A eps) {
    __shared__ Moments slots[32];
    Row row(width, groups, S);
    if (row.r >= rows) return;  // whole warps, and never of a block that is one row
    A shift = x[row.start()];
    Walk walk(threadIdx.x, blockDim.x, row.r, rows, width);
    Moments m = across_row(moments_of(x, walk, row.visits(), shift), Merge(), slots);
    A variance = m.squares / A(width), scale = A(1) / sqrt(variance + eps);
    if (threadIdx.x == 0) {
        mean[row.r] = shift + m.mean;
        var[row.r] = variance;
        inv_std[row.r] = scale;
    }
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        A x_hat = ((A(x[row.start() + i]) - shift) - m.mean) * scale;
        if (gamma) x_hat *= gamma[row.channel(i)];
        y[row.start() + i] = x_hat + (beta ? beta[row.channel(i)] : A(0));
    }
}

// dx = inv_std (g - mean g - x_hat mean(g x_hat)) with g = gamma dy.
extern "C" __global__ void layer_norm_backward(
    const T* __restrict__ grad,           // [rows * width]
    const T* __restrict__ x,              // [rows * width]
    OPTIONAL const A* __restrict__ gamma,  // [groups * width // S]
    const A* __restrict__ mean,            // [rows]
    const A* __restrict__ inv_std,         // [rows]
    T* __restrict__ dx,                    // [rows * width]
    int rows, int width, int groups, int S) {
    __shared__ Two slots[32];
    Row row(width, groups, S);
    if (row.r >= rows) return;
    A center = mean[row.r], scale = inv_std[row.r];
    Two sums = {0, 0};
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        A g = A(grad[row.start() + i]) * (gamma ? gamma[row.channel(i)] : A(1));
        sums.a += g;
        sums.b += g * ((A(x[row.start() + i]) - center) * scale);
    }
    sums = across_row(sums, AddTwo(), slots);
    A mean_g = sums.a / A(width), mean_gx = sums.b / A(width);
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        A g = A(grad[row.start() + i]) * (gamma ? gamma[row.channel(i)] : A(1));
        A x_hat = (A(x[row.start() + i]) - center) * scale;
        dx[row.start() + i] = scale * ((g - mean_g) - x_hat * mean_gx);
    }
}

// y = gamma x inv_rms,  inv_rms = 1 / sqrt(mean x^2 + eps).
// Source: Zhang and Sennrich (2019), arXiv:1910.07467, eq. 4.
extern "C" __global__ void rms_norm(
    const T* __restrict__ x,              // [rows * width]
    OPTIONAL const A* __restrict__ gamma,  // [width]
    T* __restrict__ y,                     // [rows * width]
    A* __restrict__ inv_rms,               // [rows]
    int rows, int width, A eps) {
    __shared__ A slots[32];
    Row row(width, 1, 1);
    if (row.r >= rows) return;
    A squares = 0;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        A v = x[row.start() + i];
        squares += v * v;
    }
    A scale = A(1) / sqrt(across_row(squares, Add(), slots) / A(width) + eps);
    if (threadIdx.x == 0) inv_rms[row.r] = scale;
    for (int i = threadIdx.x; i < width; i += blockDim.x)
        y[row.start() + i] = A(x[row.start() + i]) * scale * (gamma ? gamma[i] : A(1));
}

// dx = inv_rms (g - x_hat mean(g x_hat)) with g = gamma dy and x_hat = x inv_rms.
extern "C" __global__ void rms_norm_backward(
    const T* __restrict__ grad,           // [rows * width]
    const T* __restrict__ x,              // [rows * width]
    OPTIONAL const A* __restrict__ gamma,  // [width]
    const A* __restrict__ inv_rms,         // [rows]
    T* __restrict__ dx,                    // [rows * width]
    int rows, int width) {
    __shared__ A slots[32];
    Row row(width, 1, 1);
    if (row.r >= rows) return;
    A scale = inv_rms[row.r], sum = 0;
    for (int i = threadIdx.x; i < width; i += blockDim.x)
        sum += A(grad[row.start() + i]) * (gamma ? gamma[i] : A(1)) * A(x[row.start() + i]) * scale;
    A mean = across_row(sum, Add(), slots) / A(width);
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        A g = A(grad[row.start() + i]) * (gamma ? gamma[i] : A(1));
        dx[row.start() + i] = scale * (g - A(x[row.start() + i]) * scale * mean);
    }
}

// ---- dgamma and dbeta of all of these ----------------------------------------------------------

// dgamma = sum dy x_hat, dbeta = sum dy over the images and the places of a channel, for each part
// of it; x_hat by the statistics of the group to which image and channel belong, without a mean for
// RMS norm.
extern "C" __global__ void norm_parameter_gradients(
    const T* __restrict__ grad,           // [count * C]
    const T* __restrict__ x,              // [count * C]
    OPTIONAL const A* __restrict__ mean,   // [count // S * groups]
    const A* __restrict__ inv_std,         // [count // S * groups]
    OPTIONAL A* __restrict__ dgamma,       // [parts * C]
    OPTIONAL A* __restrict__ dbeta,        // [parts * C]
    int count, int C, int S, int groups, int part, int parts) {
    __shared__ Two slots[THREADS];
    Share share(count, part);
    int c = min(share.c, C - 1), i = share.first;
    Walk walk(share.first, share.step, c, C, S);
    Two sums = {0, 0};
    for (int left = share.c < C ? share.visits : 0; left > 0; left--) {
        i64 row = (i64)(i / S) * groups + c / (C / groups);
        A dy = grad[walk.place];
        sums.a += dy;
        sums.b += dy * ((A(x[walk.place]) - (mean ? mean[row] : A(0))) * inv_std[row]);
        walk.next();
        i += share.step;
    }
    sums = across_column(sums, AddTwo(), slots);
    if (share.c < C && threadIdx.y == 0) {
        if (dgamma) dgamma[(i64)blockIdx.y * C + c] = sums.b;
        if (dbeta) dbeta[(i64)blockIdx.y * C + c] = sums.a;
    }
}
