/*
 * Runs a fuzz target over the files of a directory, without libFuzzer: with any compiler, under any
 * tool, in every `make check`. What a fuzzer found once stays found. Speaks TAP; one test for the
 * whole directory.
 *
 *   NAME_replay DIRECTORY
 */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Exactly as many bytes as the file has, so that a tool sees a read past them. false when it cannot
 * be read. */
static bool replay(const char *directory, const char *name) {
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/%s", directory, name);
    if (length < 0 || (size_t)length >= sizeof path)
        return false;
    FILE *file = fopen(path, "rb");
    if (!file)
        return false;
    bool done = false;
    uint8_t *data = NULL;
    long size = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    if (size >= 0 && fseek(file, 0, SEEK_SET) == 0)
        data = malloc(size > 0 ? (size_t)size : 1);
    if (data && fread(data, 1, (size_t)size, file) == (size_t)size) {
        /* Said before, so that a crash has a name. */
        printf("# %s\n", path);
        fflush(stdout);
        LLVMFuzzerTestOneInput(data, (size_t)size);
        done = true;
    }
    free(data);
    fclose(file);
    return done;
}

int main(int argc, char **argv) {
    DIR *directory = argc == 2 ? opendir(argv[1]) : NULL;
    unsigned files = 0;
    unsigned bad = 0;
    if (directory) {
        for (const struct dirent *entry; (entry = readdir(directory));) {
            if (entry->d_name[0] == '.')
                continue;
            files++;
            if (!replay(argv[1], entry->d_name))
                bad++;
        }
        closedir(directory);
    }
    bool passed = files > 0 && bad == 0;
    printf("%sok 1 - %u files, %u of them unreadable\n1..1\n", passed ? "" : "not ", files, bad);
    return passed ? EXIT_SUCCESS : EXIT_FAILURE;
}
