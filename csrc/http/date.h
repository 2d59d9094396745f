/*
 * Dates of HTTP (RFC 2616 3.3.1): three formats read, the first one written. No clock, no locale,
 * no time zone.
 */
#ifndef KHP_HTTP_DATE_H
#define KHP_HTTP_DATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KHP_HTTP_DATE_SIZE = 29 };

/* Seconds since 1970 as RFC 1123 date, not terminated. false: the year is not within 0 to 9999; out
 * is untouched. */
bool khp_http_date_write(int64_t seconds, char out[KHP_HTTP_DATE_SIZE]);

/*
 * Reads any of the formats. now: seconds since 1970, to tell the century of a two-digit year (RFC
 * 2616 19.3). The day of the week is not compared with the date. false: not a date.
 */
bool khp_http_date_read(const char *at, size_t n, int64_t now, int64_t *seconds);

#endif
