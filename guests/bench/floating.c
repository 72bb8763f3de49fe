/* Floating point and vectors: SSE scalar, SSE2 vectors (integer and floating), x87. No library functions,
 * whose last digit may depend on the CPU's features, and no contraction to fused forms (see the recipe). */
#include "bench.h"
#include <emmintrin.h>
#include <string.h>

static double root_of(double x) { return _mm_cvtsd_f64(_mm_sqrt_sd(_mm_set_sd(0), _mm_set_sd(x))); }

struct body {
    double x, y, z, vx, vy, vz, mass;
};

/* Five bodies that attract each other. */
static uint64_t bodies(void)
{
    enum { COUNT = 5 };
    struct body all[COUNT];
    for (int i = 0; i < COUNT; i++)
        all[i] = (struct body){i * 1.5, 2.0 - i, i * i * 0.25, 0.1 * i, 0.2 - 0.1 * i, 0.05, 1.0 / (i + 1)};
    for (int step = 0; step < 700; step++) {
        for (int i = 0; i < COUNT; i++)
            for (int j = i + 1; j < COUNT; j++) {
                struct body *a = &all[i], *b = &all[j];
                double x = a->x - b->x, y = a->y - b->y, z = a->z - b->z;
                double square = x * x + y * y + z * z + 0.01;
                double force = 0.001 / (square * root_of(square));
                a->vx -= x * b->mass * force, a->vy -= y * b->mass * force, a->vz -= z * b->mass * force;
                b->vx += x * a->mass * force, b->vy += y * a->mass * force, b->vz += z * a->mass * force;
            }
        for (int i = 0; i < COUNT; i++)
            all[i].x += 0.001 * all[i].vx, all[i].y += 0.001 * all[i].vy, all[i].z += 0.001 * all[i].vz;
    }
    return hash_bytes(all, sizeof all);
}

static uint64_t mandelbrot(void)
{
    uint64_t hash = 0;
    for (int line = 0; line < 32; line++)
        for (int column = 0; column < 48; column++) {
            double cx = column / 24.0 - 1.5, cy = line / 16.0 - 1, x = 0, y = 0;
            unsigned turns = 0;
            for (; turns < 60 && x * x + y * y < 4; turns++) {
                double next_x = x * x - y * y + cx;
                y = 2 * x * y + cy;
                x = next_x;
            }
            hash = mix(hash, turns);
        }
    return hash;
}

static uint64_t matrix(void)
{
    enum { N = 48 };
    static double a[N][N], b[N][N], c[N][N];
    for (int i = 0; i < N * N; i++) {
        a[i / N][i % N] = i * 0.5 - 7;
        b[i / N][i % N] = 3 - i * 0.25;
    }
    memset(c, 0, sizeof c);
    for (int i = 0; i < N; i++)
        for (int k = 0; k < N; k++) {
            __m128d factor = _mm_set1_pd(a[i][k]);
            for (int j = 0; j < N; j += 2) {
                __m128d sum = _mm_loadu_pd(&c[i][j]);
                _mm_storeu_pd(&c[i][j], _mm_add_pd(sum, _mm_mul_pd(factor, _mm_loadu_pd(&b[k][j]))));
            }
        }
    return hash_bytes(c, sizeof c);
}

/* A system of linear equations by elimination with pivots. */
static uint64_t equations(void)
{
    enum { N = 40 };
    static double all[N][N + 1];
    struct numbers numbers = {21};
    for (int i = 0; i < N; i++)
        for (int j = 0; j <= N; j++)
            all[i][j] = (double)(int64_t)(next(&numbers) % 2000) - 1000;
    for (int i = 0; i < N; i++) {
        int pivot = i;
        for (int j = i + 1; j < N; j++)
            if (__builtin_fabs(all[j][i]) > __builtin_fabs(all[pivot][i]))
                pivot = j;
        for (int k = 0; k <= N; k++) {
            double swap = all[i][k];
            all[i][k] = all[pivot][k];
            all[pivot][k] = swap;
        }
        for (int j = i + 1; j < N; j++) {
            double factor = all[j][i] / all[i][i];
            for (int k = i; k <= N; k++)
                all[j][k] -= factor * all[i][k];
        }
    }
    return hash_bytes(all[N - 1], sizeof all[N - 1]);
}

/* Fourier transform of 512 points; the twiddle factors by recurrence from one half angle. */
static uint64_t fourier(void)
{
    enum { N = 512 };
    static double re[N], im[N];
    for (int i = 0, j = 0; i < N; i++) {
        re[j] = i % 17 - 8.0;
        im[j] = i % 5;
        for (int bit = N / 2; (j ^= bit) < bit && bit > 0; bit /= 2)
            ;
    }
    double cosine = -1, sine = 0;
    for (int half = 1; half < N; half *= 2) {
        double wr = 1, wi = 0;
        for (int k = 0; k < half; k++) {
            for (int i = k; i < N; i += 2 * half) {
                double tr = wr * re[i + half] - wi * im[i + half], ti = wr * im[i + half] + wi * re[i + half];
                re[i + half] = re[i] - tr, im[i + half] = im[i] - ti;
                re[i] += tr, im[i] += ti;
            }
            double old = wr;
            wr = wr * cosine - wi * sine;
            wi = old * sine + wi * cosine;
        }
        double half_cosine = root_of((1 + cosine) / 2);
        sine = half == 1 ? 1 : root_of((1 - cosine) / 2);
        cosine = half == 1 ? 0 : half_cosine;
    }
    return mix(hash_bytes(re, sizeof re), hash_bytes(im, sizeof im));
}

/* Largest eigenvalue of a matrix given by a formula, by iteration. */
static uint64_t spectrum(void)
{
    enum { N = 40 };
    double u[N], v[N];
    for (int i = 0; i < N; i++)
        u[i] = 1;
    for (int round = 0; round < 12; round++) {
        double largest = 0;
        for (int i = 0; i < N; i++) {
            v[i] = 0;
            for (int j = 0; j < N; j++)
                v[i] += u[j] / ((i + j) * (i + j + 1) / 2 + i + 1);
            largest = v[i] > largest ? v[i] : largest;
        }
        for (int i = 0; i < N; i++)
            u[i] = v[i] / largest;
    }
    return hash_bytes(u, sizeof u);
}

static uint64_t extended(void)
{
    long double sum = 0, power = 1;
    for (int i = 1; i < 6000; i++) {
        power = power * -0.999L + 1.0L / (long double)i;
        sum += __builtin_sqrtl((long double)i) * power;
    }
    double high = (double)sum, low = (double)(sum - (long double)high);
    return mix(bits(high), bits(low));
}

static uint64_t single_vectors(void)
{
    enum { COUNT = 4096 };
    static float x[COUNT], y[COUNT];
    for (int i = 0; i < COUNT; i++)
        x[i] = (float)i * 0.5f, y[i] = 1;
    for (int round = 0; round < 12; round++) {
        __m128 factor = _mm_set1_ps(0.25f * (float)(round + 1));
        for (int i = 0; i < COUNT; i += 4) {
            __m128 a = _mm_load_ps(&x[i]), b = _mm_load_ps(&y[i]);
            b = _mm_add_ps(_mm_mul_ps(a, factor), _mm_min_ps(b, _mm_set1_ps(1e6f)));
            _mm_store_ps(&y[i], _mm_max_ps(b, _mm_sqrt_ps(a)));
        }
    }
    return hash_bytes(y, sizeof y);
}

/* Sums of absolute differences of blocks of bytes, as in the search for motion in video. */
static uint64_t block_search(void)
{
    enum { WIDTH = 128 };
    static unsigned char picture[WIDTH * WIDTH];
    struct numbers numbers = {22};
    for (int i = 0; i < WIDTH * WIDTH; i++)
        picture[i] = (unsigned char)next(&numbers);
    uint64_t best = ~0ull, where = 0;
    for (int y = 0; y < WIDTH - 16; y += 2)
        for (int x = 0; x < WIDTH - 16; x += 3) {
            __m128i sum = _mm_setzero_si128();
            for (int line = 0; line < 16; line++) {
                __m128i a = _mm_loadu_si128((const __m128i *)&picture[(y + line) * WIDTH + x]);
                __m128i b = _mm_loadu_si128((const __m128i *)&picture[line * WIDTH + 100]);
                sum = _mm_add_epi64(sum, _mm_sad_epu8(a, b));
            }
            uint64_t total = (uint64_t)_mm_cvtsi128_si64(sum) +
                             (uint64_t)_mm_cvtsi128_si64(_mm_unpackhi_epi64(sum, sum));
            if (total < best)
                best = total, where = (uint64_t)(y * WIDTH + x);
        }
    return mix(best, where);
}

/* Blends two pictures of 16-bit channels: unpack, multiply, shift, pack with saturation. */
static uint64_t blend(void)
{
    enum { SIZE = 16384 };
    static unsigned char a[SIZE] __attribute__((aligned(16))), b[SIZE] __attribute__((aligned(16)));
    for (int i = 0; i < SIZE; i++)
        a[i] = (unsigned char)(i * 7), b[i] = (unsigned char)(i >> 3);
    const __m128i zero = _mm_setzero_si128();
    for (short alpha = 16; alpha < 256; alpha += 32)
        for (int i = 0; i < SIZE; i += 16) {
            __m128i p = _mm_load_si128((__m128i *)&a[i]), q = _mm_load_si128((__m128i *)&b[i]);
            __m128i low = _mm_sub_epi16(_mm_unpacklo_epi8(p, zero), _mm_unpacklo_epi8(q, zero));
            __m128i high = _mm_sub_epi16(_mm_unpackhi_epi8(p, zero), _mm_unpackhi_epi8(q, zero));
            low = _mm_srai_epi16(_mm_mullo_epi16(low, _mm_set1_epi16(alpha)), 8);
            high = _mm_srai_epi16(_mm_mullo_epi16(high, _mm_set1_epi16(alpha)), 8);
            low = _mm_add_epi16(low, _mm_unpacklo_epi8(q, zero));
            high = _mm_add_epi16(high, _mm_unpackhi_epi8(q, zero));
            _mm_store_si128((__m128i *)&a[i], _mm_packus_epi16(low, high));
        }
    return hash_bytes(a, sizeof a);
}

/* Polynomials and conversions: a sound wave to 16-bit samples. */
static uint64_t samples(void)
{
    uint64_t hash = 0;
    double phase = 0;
    for (int i = 0; i < 12000; i++) {
        double x = phase - (double)(int64_t)phase - 0.5, square = x * x;
        double wave = x * (6.28318 + square * (-41.3417 + square * (81.6052 - square * 76.7)));
        hash += (uint64_t)(int64_t)(wave * 32767.0) << (i & 15);
        phase += 0.01 + (double)(float)(i & 63) * 1e-4;
    }
    return hash;
}

/* Newton's method, many divisions. */
static uint64_t newton(void)
{
    double sum = 0;
    for (int i = 1; i < 2500; i++) {
        double x = i;
        for (int turn = 0; turn < 8; turn++)
            x = x - (x * x * x - i) / (3 * x * x);
        sum += x;
    }
    return bits(sum);
}

static const struct row rows[] = {
    {"bodies", bodies, NULL},
    {"mandelbrot", mandelbrot, NULL},
    {"matrix", matrix, NULL},
    {"equations", equations, NULL},
    {"fourier", fourier, NULL},
    {"spectrum", spectrum, NULL},
    {"x87", extended, NULL},
    {"single-vectors", single_vectors, NULL},
    {"block-search", block_search, NULL},
    {"blend", blend, NULL},
    {"samples", samples, NULL},
    {"newton", newton, NULL},
};

const struct group floating_group = GROUP("floating", rows);
