/* A CUDA driver that runs no kernel itself: libcuda.so.1 for tests of everything up to the launch.
 *
 * Memory is the host's. Every launch, event and synchronization is written to a log that tests read with stub_log.
 * Functions that are not here succeed and do nothing; STUB_VERSION and STUB_DEVICES choose what the driver says of itself.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int R;
enum { INVALID = 1, OUT_OF_MEMORY = 2, NO_CONTEXT = 201, NOT_FOUND = 500, CAPTURED = 900, INVALID_CLUSTER = 912, BLOCKS = 4096, KERNELS = 1024, LINES = 1 << 20 };
enum { DEFAULT = (48 << 10) - 1024 }; /* bytes of dynamic shared memory, beside some that a kernel declares */

static struct { char *start; size_t size; int device; } blocks[BLOCKS];
static struct { char name[128]; int count; unsigned char sizes[64]; int shared, clusters; } kernels[KERNELS];
static int nkernels, contexts[16], failing, quiet, most_clustered;
static int (*run)(const char *name, const unsigned *grid, unsigned threads, int cluster, void **parameters);
static _Thread_local int *current;
static void *captured; /* the stream that a graph is made of; the host must not wait then, nor memory come of the driver */
static char text[LINES];
static size_t used;

static int environment(const char *name, int otherwise) { char *value = getenv(name); return value ? atoi(value) : otherwise; }

#define LOG(...) do { if (!quiet && used < LINES - 512) used += snprintf(text + used, 512, __VA_ARGS__); } while (0)

/* What tests call. */
const char *stub_log(void) { return text; }
void stub_clear(void) { used = 0; text[0] = 0; }
void stub_quiet(int on) { quiet = on; }
void stub_fail(int error) { failing = error; }
void stub_capture(void *stream) { captured = stream; }
void stub_clusters(int most) { most_clustered = most; }
void stub_run(void *function) { run = function; }
void stub_parameters(const char *name, const unsigned char *sizes, int count) {
    for (int i = 0; i < nkernels; i++)
        if (!strcmp(kernels[i].name, name)) { memcpy(kernels[i].sizes, sizes, count); kernels[i].count = count; }
}
int stub_blocks(void) { int n = 0; for (int i = 0; i < BLOCKS; i++) n += blocks[i].start != 0; return n; }
static int block_of(void *p) {
    for (int i = 0; i < BLOCKS; i++)
        if (blocks[i].start && (char *)p >= blocks[i].start && (char *)p < blocks[i].start + blocks[i].size) return i;
    return -1;
}

size_t stub_allocation(void *p, void **start) {
    int i = block_of(p);
    *start = i < 0 ? p : blocks[i].start;
    return i < 0 ? 0 : blocks[i].size;
}

struct Attribute { int id, pad; union { unsigned dims[3]; int value; char room[64]; } u; };
struct Config { unsigned grid[3], block[3], shared; void *stream; struct Attribute *attributes; unsigned count; };

static R nothing(void) { return 0; }
R cuGetProcAddress_v2(const char *symbol, void **found, int version, uint64_t flags, int *status) {
    static void *self;
    Dl_info info;
    char name[256];
    if (!self) { dladdr((void *)cuGetProcAddress_v2, &info); self = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD); }
    *found = NULL;
    for (int i = 0; i < 3 && !*found; i++) {
        snprintf(name, sizeof name, "%s%s", symbol, (const char *[]){"", "_v2", "_v3"}[i]);
        *found = dlsym(self, name);
    }
    if (!*found) *found = (void *)nothing;
    if (status) *status = 0;
    return 0;
}
R cuGetProcAddress(const char *symbol, void **found, int version, uint64_t flags) {
    return cuGetProcAddress_v2(symbol, found, version, flags, NULL);
}
R cuInit(unsigned flags) { return environment("STUB_DEVICES", 1) ? 0 : 100; }
R cuDriverGetVersion(int *version) { *version = environment("STUB_VERSION", 13000); return 0; }
R cuGetErrorName(int error, const char **name) { *name = "STUB_ERROR"; return 0; }
R cuGetErrorString(int error, const char **words) { *words = "the stub was told to fail"; return 0; }

R cuDeviceGetCount(int *count) { *count = environment("STUB_DEVICES", 1); return 0; }
R cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal < environment("STUB_DEVICES", 1) ? 0 : 101; }
R cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "stub"); return 0; }
R cuDeviceGetUuid_v2(char *uuid, int device) { memset(uuid, 7 + device, 16); return 0; }
R cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)141 << 30; return 0; }
R cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
    case 1: *value = 1024; break;        /* threads of a block */
    case 8: *value = 49152; break;       /* shared memory of a block */
    case 10: *value = 32; break;         /* warp */
    case 16: *value = 132; break;        /* multiprocessors */
    case 38: *value = 50 << 20; break;   /* L2 */
    case 39: *value = 2048; break;       /* threads of a multiprocessor */
    case 75: *value = environment("STUB_MAJOR", 9); break;
    case 76: *value = environment("STUB_MINOR", 0); break;
    case 81: *value = 233472; break;     /* shared memory of a multiprocessor */
    case 97: *value = 232448; break;     /* shared memory of a block, on request */
    default: *value = 1;
    }
    return 0;
}

R cuDevicePrimaryCtxRetain(void **context, int device) { *context = &contexts[device]; return 0; }
R cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { *flags = 0; *active = 1; return 0; }
R cuCtxGetCurrent(void **context) { *context = current; return 0; }
R cuCtxSetCurrent(void *context) { current = context; return 0; }
R cuCtxPushCurrent_v2(void *context) { current = context; return 0; }
R cuCtxPopCurrent_v2(void **context) { *context = current; return 0; }
R cuCtxGetDevice(int *device) { if (!current) return NO_CONTEXT; *device = (int)(current - contexts); return 0; }
R cuCtxGetId(void *context, unsigned long long *id) { *id = 1; return 0; }
R cuCtxGetApiVersion(void *context, unsigned *version) { *version = 13000; return 0; }
R cuCtxSynchronize(void) { LOG("synchronize context\n"); return failing; }

static uintptr_t handles = 0x1000;
static void *handle(void) { return (void *)(handles += 16); }
R cuStreamCreateWithPriority(void **stream, unsigned flags, int priority) { *stream = handle(); return 0; }
R cuStreamCreate(void **stream, unsigned flags) { *stream = handle(); return 0; }
R cuStreamSynchronize(void *stream) { if (captured || !current) return captured ? CAPTURED : NO_CONTEXT; LOG("synchronize stream %p\n", stream); return 0; }
R cuStreamGetCtx(void *stream, void **context) { *context = current; return 0; }
R cuStreamGetCtx_v2(void *stream, void **context, void **green) { *context = current; if (green) *green = 0; return 0; }
R cuStreamGetDevice(void *stream, int *device) { *device = current ? (int)(current - contexts) : 0; return 0; }
R cuStreamGetFlags(void *stream, unsigned *flags) { *flags = 1; return 0; }
R cuStreamIsCapturing(void *stream, int *capturing) { *capturing = captured && stream == captured; return 0; }
R cuStreamWaitEvent(void *stream, void *event, unsigned flags) { LOG("wait %p %p\n", stream, event); return 0; }
R cuEventCreate(void **event, unsigned flags) { *event = handle(); return 0; }
R cuEventRecord(void *event, void *stream) { if (!current) return NO_CONTEXT; LOG("record %p %p\n", event, stream); return 0; }
R cuEventSynchronize(void *event) { LOG("synchronize event\n"); return 0; }

R cuMemAlloc_v2(void **pointer, size_t bytes) {
    if (failing || !current) return failing ? failing : NO_CONTEXT;
    for (int i = 0; i < BLOCKS; i++)
        if (!blocks[i].start) {
            *pointer = blocks[i].start = aligned_alloc(256, (bytes + 511) / 256 * 256);
            blocks[i].size = bytes;
            if (run) memset(blocks[i].start, 0xff, bytes); /* what nobody wrote is NaN */
            blocks[i].device = current ? (int)(current - contexts) : 0;
            return 0;
        }
    return OUT_OF_MEMORY;
}
R cuMemAllocAsync(void **pointer, size_t bytes, void *stream) { LOG("allocate %zu %p\n", bytes, stream); return cuMemAlloc_v2(pointer, bytes); }
R cuMemAllocFromPoolAsync(void **pointer, size_t bytes, void *pool, void *stream) { return cuMemAllocAsync(pointer, bytes, stream); }
R cuMemFree_v2(void *pointer) {
    int i = block_of(pointer);
    if (i < 0) return INVALID;
    free(blocks[i].start);
    blocks[i].start = 0;
    return 0;
}
R cuMemFreeAsync(void *pointer, void *stream) { return cuMemFree_v2(pointer); }
R cuMemGetInfo_v2(size_t *available, size_t *total) { *available = *total = (size_t)140 << 30; return 0; }
static R copied(void *to, const void *from, size_t bytes) { if (!current) return NO_CONTEXT; memcpy(to, from, bytes); return 0; }
R cuMemcpyHtoD_v2(void *to, const void *from, size_t bytes) { memcpy(to, from, bytes); return 0; }
R cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t bytes, void *stream) { return copied(to, from, bytes); }
R cuMemcpyDtoH_v2(void *to, const void *from, size_t bytes) { memcpy(to, from, bytes); return 0; }
R cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t bytes, void *stream) { return copied(to, from, bytes); }
R cuMemcpyAsync(void *to, const void *from, size_t bytes, void *stream) { return copied(to, from, bytes); }
R cuDeviceGetDefaultMemPool(void **pool, int device) { *pool = (void *)0x99; return 0; }
R cuDeviceGetMemPool(void **pool, int device) { *pool = (void *)0x99; return 0; }
R cuMemPoolGetAttribute(void *pool, int attribute, void *value) { *(uint64_t *)value = 0; return 0; }
static R attribute(void *value, int which, void *pointer) {
    int i = block_of(pointer);
    switch (which) {
    case 2: *(unsigned *)value = i < 0 ? 0 : 2; break;                       /* memory type: of a device */
    case 9: *(int *)value = i < 0 ? -2 : blocks[i].device; break;            /* device */
    case 11: *(void **)value = i < 0 ? 0 : blocks[i].start; break;           /* start of the allocation */
    case 12: *(size_t *)value = i < 0 ? 0 : blocks[i].size; break;           /* its size */
    default: *(unsigned *)value = 0;
    }
    return 0;
}
R cuPointerGetAttribute(void *value, int which, void *pointer) { return block_of(pointer) < 0 ? INVALID : attribute(value, which, pointer); }
R cuPointerGetAttributes(unsigned count, int *which, void **values, void *pointer) {
    for (unsigned i = 0; i < count; i++) attribute(values[i], which[i], pointer);
    return 0;
}

R cuLibraryLoadData(void **library, const void *code, void *a, void *b, unsigned c, void *d, void *e, unsigned f) {
    *library = handle();
    if (captured) return CAPTURED;
    return memcmp(code, "\177ELF", 4) ? 200 : 0; /* invalid image */
}
R cuLibraryGetKernel(void **kernel, void *library, const char *name) {
    if (nkernels == KERNELS) return OUT_OF_MEMORY;
    snprintf(kernels[nkernels].name, sizeof kernels[0].name, "%s", name);
    *kernel = &kernels[nkernels++];
    return 0;
}
R cuKernelGetAttribute(int *value, int attribute, void *kernel, int device) { *value = 32; return 0; }
static int index_of(void *kernel) { return (int)(((char *)kernel - (char *)kernels) / sizeof kernels[0]); }
R cuKernelSetAttribute(int attribute, int value, void *kernel, int device) {
    LOG("attribute %d %d\n", attribute, value);
    if (attribute == 8) kernels[index_of(kernel)].shared = value;
    if (attribute == 14) kernels[index_of(kernel)].clusters = value;
    return 0;
}
R cuKernelGetParamInfo(void *kernel, size_t index, size_t *offset, size_t *size) { return INVALID; }
R cuOccupancyMaxActiveClusters(int *clusters, void *function, const struct Config *config) {
    int cluster = 1;
    for (unsigned i = 0; i < config->count; i++)
        if (config->attributes[i].id == 4) cluster = config->attributes[i].u.dims[0];
    LOG("clusters of %d\n", cluster);
    *clusters = most_clustered && cluster > most_clustered ? 0 : 132 / cluster;
    return failing;
}
R cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *function, int size, size_t shared) { *blocks = 4; return 0; }

R cuLaunchKernelEx(const struct Config *config, void *function, void **parameters, void **extra) {
    int cluster = 1, serialized = 0, index = index_of(function);
    if (failing || !current) return failing ? failing : NO_CONTEXT;
    if (quiet) return 0;
    for (unsigned i = 0; i < config->count; i++) {
        if (config->attributes[i].id == 4) cluster = config->attributes[i].u.dims[0];
        if (config->attributes[i].id == 6) serialized = config->attributes[i].u.value;
    }
    if (config->shared > (kernels[index].shared ? kernels[index].shared : DEFAULT)) return INVALID;
    if (cluster > 8 && !kernels[index].clusters) return INVALID_CLUSTER;
    LOG("launch %s %u,%u,%u %u %u %d %d %p", kernels[index].name, config->grid[0], config->grid[1], config->grid[2],
        config->block[0], config->shared, cluster, serialized, config->stream);
    for (int i = 0; i < kernels[index].count; i++) {
        uint64_t bits = 0;
        memcpy(&bits, parameters[i], kernels[index].sizes[i]);
        LOG(" %llx", (unsigned long long)bits);
    }
    LOG("\n");
    return run ? run(kernels[index].name, config->grid, config->block[0], cluster, parameters) : 0;
}
R cuLaunchKernel(void *function, unsigned a, unsigned b, unsigned c, unsigned d, unsigned e, unsigned f, unsigned shared,
                 void *stream, void **parameters, void **extra) {
    struct Config config = {{a, b, c}, {d, e, f}, shared, stream, NULL, 0};
    return cuLaunchKernelEx(&config, function, parameters, extra);
}
