/*
 * What connections share: the settings of a server or client, and what those of a loop have in
 * common.
 */
#include "core/connection.h"

#include <stdlib.h>

struct khp_conn_settings *khp_conn_settings_new(void) {
    struct khp_conn_settings *settings = calloc(1, sizeof *settings);
    if (settings)
        settings->references = 1;
    return settings;
}

void khp_conn_settings_retain(struct khp_conn_settings *settings) {
    settings->references++;
}

void khp_conn_settings_release(struct khp_conn_settings *settings) {
    if (settings && --settings->references == 0)
        free(settings);
}

void khp_conn_shared_free(struct khp_conn_shared *shared) {
    khp_ws_random_free(&shared->random);
    khp_ws_spare_free(&shared->spare);
}
