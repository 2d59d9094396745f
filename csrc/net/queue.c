/*
 * The byte queue: growth, compaction, and whose buffer is kept.
 */
#include "net/queue.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    SMALLEST = 1024,           /* what a first reservation allocates at least */
    WORTH_FITTING = 4 * 1024,  /* smaller buffers are not traded for a fitting one */
    SPARE_LARGEST = 256 * 1024 /* larger buffers are freed, not kept */
};

/* The queue is empty: lets go of its buffer. */
static void give_back(struct khp_net_queue *queue, struct khp_net_spare *spare) {
    uint8_t *bytes = queue->bytes;
    if (queue->size <= SPARE_LARGEST && queue->size > spare->size) {
        bytes = spare->bytes;
        spare->bytes = queue->bytes;
        spare->size = queue->size;
    }
    free(bytes);
    memset(queue, 0, sizeof *queue);
}

static bool take_spare(struct khp_net_queue *queue, struct khp_net_spare *spare, size_t n) {
    if (queue->bytes != NULL || spare->bytes == NULL || spare->size < n)
        return false;
    queue->bytes = spare->bytes;
    queue->size = spare->size;
    queue->start = queue->end = 0;
    spare->bytes = NULL;
    spare->size = 0;
    return true;
}

uint8_t *khp_net_queue_reserve(struct khp_net_queue *queue, struct khp_net_spare *spare, size_t n) {
    if (n <= queue->size - queue->end && queue->bytes != NULL)
        return queue->bytes + queue->end;
    if (take_spare(queue, spare, n))
        return queue->bytes;

    size_t length = khp_net_queue_length(queue);
    if (n > SIZE_MAX / 4 || length > SIZE_MAX / 4)
        return NULL;
    /* Moving pays only when at least half of what is held has been read: amortised O(1). */
    if (queue->bytes != NULL && queue->start > 0 && queue->start >= length) {
        memmove(queue->bytes, queue->bytes + queue->start, length);
        queue->start = 0;
        queue->end = length;
        if (n <= queue->size - queue->end)
            return queue->bytes + queue->end;
    }
    size_t size = queue->size * 2;
    if (size < queue->end + n)
        size = queue->end + n;
    if (size < SMALLEST)
        size = SMALLEST;
    uint8_t *bytes = realloc(queue->bytes, size);
    if (bytes == NULL)
        return NULL;
    queue->bytes = bytes;
    queue->size = size;
    return bytes + queue->end;
}

void khp_net_queue_consume(struct khp_net_queue *queue, struct khp_net_spare *spare, size_t n) {
    queue->start += n;
    if (queue->start == queue->end && queue->bytes != NULL)
        give_back(queue, spare);
}

void khp_net_queue_fit(struct khp_net_queue *queue, struct khp_net_spare *spare) {
    size_t length = khp_net_queue_length(queue);
    if (queue->size <= WORTH_FITTING || length > queue->size / 4)
        return;
    uint8_t *bytes = malloc(length);
    if (bytes == NULL)
        return; /* it only saves memory */
    memcpy(bytes, khp_net_queue_head(queue), length);
    give_back(queue, spare);
    queue->bytes = bytes;
    queue->end = queue->size = length;
}

void khp_net_queue_clear(struct khp_net_queue *queue, struct khp_net_spare *spare) {
    if (queue->bytes != NULL)
        give_back(queue, spare);
}

void khp_net_spare_free(struct khp_net_spare *spare) {
    free(spare->bytes);
    memset(spare, 0, sizeof *spare);
}
