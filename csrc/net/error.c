/*
 * Fills in struct khp_net_error: why something failed, in a form for people and for branches.
 */
#include "net/error.h"

#include <stdarg.h>
#include <stdio.h>

void khp_net_error_set(struct khp_net_error *e, enum khp_net_code code, int sys, const char *format,
                       ...) {
    if (e == NULL)
        return;
    e->code = code;
    e->sys = sys;
    va_list arguments;
    va_start(arguments, format);
    if (vsnprintf(e->text, sizeof e->text, format, arguments) < 0)
        e->text[0] = '\0';
    va_end(arguments);
}
