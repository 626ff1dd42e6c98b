// Loaded into a server (LD_PRELOAD): while the file that FAILING_READS names is there, reads of Parquet files that begin before
// the offset written in it fail with EIO, as those of a broken disk do.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int file, off_t offset) {
    const char *name = getenv("FAILING_READS");
    FILE *control = name ? fopen(name, "r") : NULL;
    if (!control) return 0;
    long long end = 0;
    int is_set = fscanf(control, "%lld", &end) == 1;
    fclose(control);
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!is_set || offset >= end || length < 8) return 0;
    path[length] = 0;
    return strcmp(path + length - 8, ".parquet") == 0;
}

#define READ_AT(name)                                                              \
    ssize_t name(int file, void *buffer, size_t bytes, off_t offset) {             \
        static ssize_t (*system_call)(int, void *, size_t, off_t);                 \
        if (!system_call) system_call = dlsym(RTLD_NEXT, #name);                   \
        if (!fails(file, offset)) return system_call(file, buffer, bytes, offset); \
        errno = EIO;                                                               \
        return -1;                                                                 \
    }

READ_AT(pread)
READ_AT(pread64)
