/*
 * The certificates that spec/support/certs.sh makes: from the folder $KHP_TEST_CERTS, or made once
 * in a folder of their own that goes when the program ends. Tests run from the root of the sources.
 */
#ifndef KHP_SPEC_NET_CERTS_H
#define KHP_SPEC_NET_CERTS_H

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char certs_folder[200];
static pid_t certs_maker;

static void certs_run(const char *command) {
    char line[512];
    (void)snprintf(line, sizeof line, "%s '%s'", command, certs_folder);
    if (system(line) != 0) { /* NOLINT(cert-env33-c): a test's own tools */
        (void)fprintf(stderr, "failed: %s\n", line);
        exit(1);
    }
}

static void certs_remove(void) {
    if (getpid() == certs_maker)
        certs_run("rm -rf");
}

/* The path of one of them: certs_path("ca.pem"). Dies with the next seven calls. */
static const char *certs_path(const char *name) {
    static char paths[8][300];
    static unsigned turn;

    if (certs_folder[0] == '\0') {
        const char *given = getenv("KHP_TEST_CERTS");
        if (given != NULL) {
            (void)snprintf(certs_folder, sizeof certs_folder, "%s", given);
        } else {
            (void)strcpy(certs_folder, "/tmp/khp-certs-XXXXXX");
            if (mkdtemp(certs_folder) == NULL)
                exit(1);
            certs_maker = getpid();
            (void)atexit(certs_remove);
            certs_run("spec/support/certs.sh");
        }
    }
    char *path = paths[turn++ % 8];
    (void)snprintf(path, sizeof paths[0], "%s/%s", certs_folder, name);
    return path;
}

/* What OpenSSL calls an alert, SSL_R_*: before 3.2 it names an old version of TLS, later none. */
static inline const char *alert_text(int reason) {
    return ERR_reason_error_string(ERR_PACK(ERR_LIB_SSL, 0, reason));
}

#endif
