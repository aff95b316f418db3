// One step of an optimizer on n parameters that lie side by side, and clipping of gradients.
//
// What the rules keep, and the gradient, is in A (float32 beside float16 parameters). What changes
// from step to step comes as a number, or, for a captured step, as a place in device memory, which
// is read anew in every replay: the learning rate at `lr_at`, and what Adam makes of it and of the
// step count at `numbers`. They are put there by `put_numbers`, a kernel of one thread.

// g = dL/dp + weight_decay p, with the gradient of the L2 penalty.
//   v = mu v + (1 - dampening) g, at first v = g;   p = p - lr v,  Nesterov: p - lr (g + mu v)
// Source: Sutskever et al. (2013), "On the importance of initialization and momentum in deep
// learning", in PyTorch's form.
extern "C" __global__ void sgd(
    T* __restrict__ p,                 // [n]
    const A* __restrict__ grad,        // [n]
    OPTIONAL A* __restrict__ velocity,  // [n]
    OPTIONAL const A* __restrict__ lr_at,  // [1]
    u32 n, A lr, A momentum, A dampening, A weight_decay, int nesterov, int first) {
    A rate = lr_at ? *lr_at : lr;
    for (u32 i = first_element(); i < n; i += all_threads()) {
        A w = p[i], g = grad[i] + weight_decay * w, step = g;
        if (velocity) {
            A v = first ? g : momentum * velocity[i] + (A(1) - dampening) * g;
            velocity[i] = v;
            step = nesterov ? g + momentum * v : v;
        }
        p[i] = T(w - rate * step);
    }
}

enum Form { VELOCITY, HEAVY_BALL, EMA };

// The three textbook forms of momentum; `correction` is 1 - mu^t for the corrected average, or 1.
//   velocity: v = mu v - lr g, p = p + v     heavy ball: v = mu v + g, p = p - lr v
//   average:  v = mu v + (1 - mu) g, p = p - lr / correction v
extern "C" __global__ void momentum(
    T* __restrict__ p,           // [n]
    const A* __restrict__ grad,  // [n]
    A* __restrict__ velocity,    // [n]
    OPTIONAL const A* __restrict__ lr_at,          // [1]
    OPTIONAL const A* __restrict__ correction_at,  // [1]
    u32 n, A lr, A mu, A correction, A weight_decay, int form) {
    A rate = lr_at ? *lr_at : lr;
    if (correction_at) correction = *correction_at;
    for (u32 i = first_element(); i < n; i += all_threads()) {
        A w = p[i], g = grad[i] + weight_decay * w, v = mu * velocity[i];
        v += form == VELOCITY ? -rate * g : form == HEAVY_BALL ? g : (A(1) - mu) * g;
        velocity[i] = v;
        p[i] = T(form == VELOCITY ? w + v : w - rate / correction * v);
    }
}

// s = alpha s + (1 - alpha) g^2;  p = p - lr g / (sqrt(s) + eps), or g / sqrt(s + eps).
// Centered: s less the square of the mean gradient, which rounding could make negative.
// Source: Tieleman and Hinton (2012), lecture 6.5; Graves (2013), arXiv:1308.0850, eq. 38 to 41.
extern "C" __global__ void rmsprop(
    T* __restrict__ p,                 // [n]
    const A* __restrict__ grad,        // [n]
    A* __restrict__ square,            // [n]
    OPTIONAL A* __restrict__ average,   // [n]
    OPTIONAL A* __restrict__ velocity,  // [n]
    OPTIONAL const A* __restrict__ lr_at,  // [1]
    u32 n, A lr, A alpha, A eps, A momentum, A weight_decay, int eps_inside) {
    A rate = lr_at ? *lr_at : lr;
    for (u32 i = first_element(); i < n; i += all_threads()) {
        A w = p[i], g = grad[i] + weight_decay * w;
        A s = alpha * square[i] + (A(1) - alpha) * g * g;
        square[i] = s;
        if (average) {
            A mean = alpha * average[i] + (A(1) - alpha) * g;
            average[i] = mean;
            s -= mean * mean;
            s = s < A(0) ? A(0) : s;
        }
        A step = g / (eps_inside ? sqrt(s + eps) : sqrt(s) + eps);
        if (velocity) {
            step += momentum * velocity[i];
            velocity[i] = step;
        }
        p[i] = T(w - rate * step);
    }
}

// Numbers of the host, put where the kernels of a captured step read them.
extern "C" __global__ void put_numbers(
    A* __restrict__ at,  // [count]
    int count, A n0, A n1, A n2, A n3, A n4, A n5, A n6, A n7) {
    A numbers[8] = {n0, n1, n2, n3, n4, n5, n6, n7};
    for (int i = 0; i < 8; i++)
        if (i < count) at[i] = numbers[i];
}

//   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,
//   p = p - lr m_hat / (sqrt(v_hat) + eps)    m_hat = m / (1 - beta1^t), v_hat = v / (1 - beta2^t)
// in the form keep p - rate m / (sqrt(v) + eps): `numbers` are (rate, eps, keep), with r = sqrt(1 -
// beta2^t) (lr r / (1 - beta1^t), r eps, 1 - lr weight_decay where the decay is decoupled, else 1), and
// eps itself with eps_hat. weight_decay is that of the L2 penalty, 0 where the decay is decoupled
// (AdamW); v_max: AMSGrad.
// Source: Kingma and Ba (2015), arXiv:1412.6980, algorithm 1; Loshchilov and Hutter (2019),
// arXiv:1711.05101, algorithm 2.
extern "C" __global__ void adam(
    T* __restrict__ p,              // [n]
    const A* __restrict__ grad,     // [n]
    A* __restrict__ m,              // [n]
    A* __restrict__ v,              // [n]
    OPTIONAL A* __restrict__ v_max,  // [n]
    OPTIONAL const A* __restrict__ numbers,  // [3]
    u32 n, A rate, A eps, A keep, A beta1, A beta2, A rest1, A rest2, A weight_decay) {
    if (numbers) rate = numbers[0], eps = numbers[1], keep = numbers[2];
    for (u32 i = first_element(); i < n; i += all_threads()) {
        A w = A(p[i]) * keep, g = grad[i] + weight_decay * w;
        A first = beta1 * m[i] + rest1 * g, second = beta2 * v[i] + rest2 * g * g;
        m[i] = first;
        v[i] = second;
        if (v_max) v_max[i] = second = Larger()(v_max[i], second);
        p[i] = T(w - rate * first / (sqrt(second) + eps));
    }
}

// ---- clipping: g = g min(1, max_norm / (|g| + 1e-6)) -------------------------------------------
// Source: Pascanu et al. (2013), arXiv:1211.5063, algorithm 1.

// The sum of squares of each block's share: gridDim.x partial sums.
extern "C" __global__ void sum_of_squares(
    const T* __restrict__ g,  // [n]
    A* __restrict__ partial,  // [blocks]
    u32 n, int blocks) {
    __shared__ A slots[32];
    A sum = 0;
    for (u32 i = first_element(); i < n; i += all_threads()) sum += A(g[i]) * A(g[i]);
    sum = across_row(sum, Add(), slots);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// norm = sqrt(sum of the partial sums): one block.
extern "C" __global__ void total_norm(
    const A* __restrict__ partial,  // [count]
    A* __restrict__ norm,           // [1]
    int count) {
    __shared__ A slots[32];
    A sum = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) sum += partial[i];
    sum = across_row(sum, Add(), slots);
    if (threadIdx.x == 0) *norm = sqrt(sum);
}

extern "C" __global__ void scale_to_norm(
    T* __restrict__ g,           // [n]
    const A* __restrict__ norm,  // [1]
    u32 n, A max_norm) {
    A share = max_norm / (*norm + A(1e-6));
    if (share >= A(1)) return;  // NaN: all of it becomes NaN
    for (u32 i = first_element(); i < n; i += all_threads()) g[i] = T(A(g[i]) * share);
}

// ---- running statistics: v = keep v + share x --------------------------------------------------

extern "C" __global__ void move_average(
    A* __restrict__ value,    // [n]
    const A* __restrict__ x,  // [n]
    u32 n, A keep, A share) {
    for (u32 i = first_element(); i < n; i += all_threads()) value[i] = keep * value[i] + share * x[i];
}
