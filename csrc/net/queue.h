/*
 * A queue of bytes in one contiguous buffer with a read offset. Empty, it holds no memory: its
 * buffer goes to the loop's spare, from which the next queue that needs one takes it, so that a
 * busy loop does not allocate.
 */
#ifndef KHP_NET_QUEUE_H
#define KHP_NET_QUEUE_H

#include <stddef.h>
#include <stdint.h>

struct khp_net_queue {
    uint8_t *bytes;
    size_t start, end, size; /* start <= end <= size; what is queued lies between start and end */
};

/* One buffer kept for reuse; shared by the queues of a loop. Zero-initialise. */
struct khp_net_spare {
    uint8_t *bytes;
    size_t size;
};

static inline size_t khp_net_queue_length(const struct khp_net_queue *queue) {
    return queue->end - queue->start;
}

static inline uint8_t *khp_net_queue_head(const struct khp_net_queue *queue) {
    return queue->bytes + queue->start;
}

/* Room for n more bytes at the end; fill it and add n to end. NULL: out of memory, the queue is
 * unchanged. */
uint8_t *khp_net_queue_reserve(struct khp_net_queue *queue, struct khp_net_spare *spare, size_t n);

/* Takes n bytes from the front; n at most the length. An empty queue gives its buffer back. */
void khp_net_queue_consume(struct khp_net_queue *queue, struct khp_net_spare *spare, size_t n);

/* For a queue that will wait: moves what is left to a buffer of its size if it holds a much larger
 * one. */
void khp_net_queue_fit(struct khp_net_queue *queue, struct khp_net_spare *spare);

/* Drops everything. */
void khp_net_queue_clear(struct khp_net_queue *queue, struct khp_net_spare *spare);

void khp_net_spare_free(struct khp_net_spare *spare);

#endif
