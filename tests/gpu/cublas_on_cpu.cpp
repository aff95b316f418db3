// cuBLAS as far as minigrad calls it, on memory of the CPU: the same functions, types and rules,
// column by column, slow and plain. What cuBLAS refuses, this refuses.
#include <cstddef>
#include <cstdint>
#include <cstring>

struct Context {
    void *stream, *workspace;
    size_t size;
};
enum { SUCCESS = 0, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum { R_32F = 0, R_64F = 1, R_16F = 2 };
enum { COMPUTE_32F = 68, COMPUTE_64F = 70, COMPUTE_32F_FAST_TF32 = 77 };

static double load(const void* p, int type, long long i) {
    if (type == R_64F) return ((const double*)p)[i];
    if (type == R_32F) return ((const float*)p)[i];
    return (float)((const _Float16*)p)[i];
}
static void store(void* p, int type, long long i, double v) {
    if (type == R_64F) ((double*)p)[i] = v;
    else if (type == R_32F) ((float*)p)[i] = (float)v;
    else ((_Float16*)p)[i] = (_Float16)v;
}
static double rounded(double v, int compute) {  // TF32 keeps 10 bits of mantissa
    if (compute != COMPUTE_32F_FAST_TF32) return v;
    float f = (float)v;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    bits = (bits + 0x1000) & 0xffffe000;
    memcpy(&f, &bits, 4);
    return f;
}
static int max(int a, int b) { return a > b ? a : b; }

extern "C" {
int created = 0, last_compute = 0;

int cublasCreate_v2(Context** handle) {
    *handle = new Context();
    created++;
    return SUCCESS;
}
int cublasSetStream_v2(Context* handle, void* stream) {
    *handle = {stream, nullptr, 0};  // takes the workspace away
    return SUCCESS;
}
int cublasSetWorkspace_v2(Context* handle, void* workspace, size_t size) {
    if ((uintptr_t)workspace % 256) return INVALID_VALUE;
    handle->workspace = workspace, handle->size = size;
    return SUCCESS;
}
int cublasGemmStridedBatchedEx(Context* handle, int transa, int transb, int m, int n, int k,
                               const void* alpha, const void* A, int Atype, int lda,
                               long long strideA, const void* B, int Btype, int ldb,
                               long long strideB, const void* beta, void* C, int Ctype, int ldc,
                               long long strideC, int batch, int compute, int algo) {
    if (!handle->workspace) return INVALID_VALUE;  // memory would be taken in a capture
    if (m < 0 || n < 0 || k < 0 || batch < 0 || algo != -1) return INVALID_VALUE;
    if (lda < max(1, transa ? k : m) || ldb < max(1, transb ? n : k) || ldc < max(1, m))
        return INVALID_VALUE;
    if (Atype != Btype || Btype != Ctype) return NOT_SUPPORTED;
    if ((compute == COMPUTE_64F) != (Ctype == R_64F)) return NOT_SUPPORTED;
    if (compute == COMPUTE_32F_FAST_TF32 && Ctype != R_32F) return NOT_SUPPORTED;
    last_compute = compute;
    int scale = compute == COMPUTE_64F ? R_64F : R_32F;
    double a = load(alpha, scale, 0), b = load(beta, scale, 0);
    for (long long e = 0; e < batch; e++)
        for (int j = 0; j < n; j++)
            for (int i = 0; i < m; i++) {
                double sum = 0;
                for (long long l = 0; l < k; l++)
                    sum += rounded(load(A, Atype, e * strideA + (transa ? l + (long long)i * lda
                                                                        : i + l * lda)), compute) *
                           rounded(load(B, Btype, e * strideB + (transb ? j + l * ldb
                                                                        : l + (long long)j * ldb)), compute);
                long long place = e * strideC + i + (long long)j * ldc;
                double old = b == 0 ? 0 : b * load(C, Ctype, place);  // 0 x NaN is 0 here
                store(C, Ctype, place, a * sum + old);
            }
    return SUCCESS;
}
}
