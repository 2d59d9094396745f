/*
 * The one file that includes zlib.h.
 */
#include "ws/deflate.h"

#include <zlib.h>

const char *khp_ws_deflate_version(void) {
    return zlibVersion();
}
