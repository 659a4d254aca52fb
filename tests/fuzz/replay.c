/*
 * replay.c - runs a fuzz target on files, without libFuzzer.
 *
 *   replay FILE...          runs each
 *   replay --seeds FOLDER   writes the target's seeds
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

enum { MOST_BYTES = 1 << 20 };

static const char *folder;

static void write_seed(const char *name, const uint8_t *data, size_t size)
{
    char path[1000];
    snprintf(path, sizeof path, "%s/seed-%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, size, file) != size || fclose(file) != 0) {
        perror(path);
        exit(2);
    }
}

static void replay(const char *path)
{
    static uint8_t bytes[MOST_BYTES];
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(2);
    }
    size_t n = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    /* In memory of exactly this size, so that a read past the end of the input is seen. */
    uint8_t *data = malloc(n + 1);
    if (data == NULL)
        exit(2);
    memcpy(data, bytes, n);
    fuzz_one(data, n);
    free(data);
}

int main(int argc, char **argv)
{
    atexit(fuzz_end);
    if (argc == 3 && strcmp(argv[1], "--seeds") == 0) {
        folder = argv[2];
        fuzz_seeds(write_seed);
        return 0;
    }
    for (int i = 1; i < argc; i++)
        replay(argv[i]);
    printf("%d inputs\n", argc - 1);
    return 0;
}
