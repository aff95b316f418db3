// Windows of an image as columns, and back: what makes a convolution a product of matrices.
//
//   im2col   columns[n, (c, i, j), (a, b)] = x[n, c, a sh - top + i dh, b sw - left + j dw],
//            0 in the border
//   col2im   its transpose: each place of x gathers what stands for it in the columns
//
// x is (planes, H, W) with planes = N * C, columns (planes, kh * kw, oh * ow).
// Source: Chellapilla, Puri, Simard (2006), "High performance convolutional neural networks for
// document processing".

extern "C" __global__ void im2col(
    const T* __restrict__ x,    // [n // (kh * kw * oh * ow) * H * W]
    T* __restrict__ columns,    // [n]
    u32 n, int H, int W, int oh, int ow, int kh, int kw, int sh, int sw, int top, int left, int dh,
    int dw) {
    for (u32 p = first_element(); p < n; p += all_threads()) {
        int b = p % ow;
        u32 rest = p / ow;
        int a = rest % oh;
        rest /= oh;
        int j = rest % kw;
        rest /= kw;
        int i = rest % kh;
        i64 plane = rest / kh;
        int row = a * sh - top + i * dh, column = b * sw - left + j * dw;
        bool inside = row >= 0 && row < H && column >= 0 && column < W;
        columns[p] = inside ? x[(plane * H + row) * W + column] : T(A(0));
    }
}

extern "C" __global__ void col2im(
    const T* __restrict__ columns,  // [n // (H * W) * kh * kw * oh * ow]
    T* __restrict__ x,              // [n]
    u32 n, int H, int W, int oh, int ow, int kh, int kw, int sh, int sw, int top, int left, int dh,
    int dw) {
    for (u32 p = first_element(); p < n; p += all_threads()) {
        int column = p % W, row = p / W % H;
        const T* plane = columns + (i64)(p / (W * H)) * kh * kw * oh * ow;
        A sum = 0;
        for (int i = 0; i < kh; i++) {
            int y = row + top - i * dh;  // the first row of the window, counted with the border
            if (y < 0 || y % sh || y / sh >= oh) continue;
            for (int j = 0; j < kw; j++) {
                int z = column + left - j * dw;
                if (z < 0 || z % sw || z / sw >= ow) continue;
                sum += A(plane[((i64)(i * kw + j) * oh + y / sh) * ow + z / sw]);
            }
        }
        x[p] = T(sum);
    }
}
