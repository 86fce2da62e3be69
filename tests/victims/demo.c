/*
 * A small image service whose heap peak is known: the target of `cargo xtask demo`.
 *
 * It prints READY, waits for a line on its standard input, lives through seven seconds of service, and then prints what
 * it held at its peak and at its end, by the function that asked for it, as one line of JSON. Four functions hold some
 * 400 MB at the peak; most of that is freed again, while the cache goes on growing to the end.
 *
 * The truth is exact because everything here is: one thread, no library call that allocates (standard output has a
 * buffer of its own, standard input is read with read(2)), sizes from a fixed sequence, and work dealt out by the number
 * of the step and not by the clock. Being traced slows it down but changes nothing it does.
 *
 * Build with frame pointers and real calls: -O1 -g -fno-omit-frame-pointer -fno-optimize-sibling-calls
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A function that stays a frame of its own, under its own name. */
#define FRAME __attribute__((noipa))

/* ---- The truth ---------------------------------------------------------------------------------------------------- */

enum site { CATALOGUE, INDEX, IMAGES, CACHE, REQUESTS, SITES };

static const char *const site_names[SITES] = {
    [CATALOGUE] = "load_catalogue", [INDEX] = "build_index",        [IMAGES] = "resize_images",
    [CACHE] = "fill_cache",         [REQUESTS] = "answer_requests",
};

struct holding {
    int64_t bytes;
    int64_t blocks;
};

static struct holding live[SITES];
static struct holding at_peak[SITES];
static int64_t live_bytes;
static int64_t freed_baseline_bytes;
static int64_t peak_level = INT64_MIN;

/* The plainest way to know a peak: copy the whole state whenever the level is the highest so far. The level counts what
 * was freed of the memory held before READY, which a tracer that attaches later never saw allocated. */
static void book(enum site site, int64_t bytes, int64_t blocks)
{
    live[site].bytes += bytes;
    live[site].blocks += blocks;
    live_bytes += bytes;
    if (blocks >= 0 && live_bytes - freed_baseline_bytes >= peak_level) {
        peak_level = live_bytes - freed_baseline_bytes;
        memcpy(at_peak, live, sizeof live);
    }
}

static void print_holdings(const char *moment, const struct holding *holdings)
{
    struct holding all = {0, 0};
    for (int site = 0; site < SITES; site++) {
        all.bytes += holdings[site].bytes;
        all.blocks += holdings[site].blocks;
    }
    printf("\"%s\":{\"bytes\":%lld,\"blocks\":%lld,\"sites\":{", moment, (long long)all.bytes, (long long)all.blocks);
    for (int site = 0; site < SITES; site++)
        printf("%s\"%s\":{\"bytes\":%lld,\"blocks\":%lld}", site ? "," : "", site_names[site],
               (long long)holdings[site].bytes, (long long)holdings[site].blocks);
    printf("}}");
}

/* ---- Memory ------------------------------------------------------------------------------------------------------- */

static void *checked(void *block)
{
    if (!block) {
        fprintf(stderr, "demo: out of memory\n");
        exit(1);
    }
    return block;
}

/* Sizes that look like life and are the same in every run (xorshift64). */
static size_t size_between(size_t least, size_t most)
{
    static uint64_t state = 0x9e3779b97f4a7c15;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return least + state % (most - least + 1);
}

/* Two functions of the service get their pixels here: who holds them, only the rest of the stack tells. */
FRAME static unsigned char *new_pixels(size_t width, size_t height)
{
    unsigned char *pixels = checked(malloc(width * height * 3));
    memset(pixels, 0x7f, width * height * 3);
    return pixels;
}

/* ---- The service -------------------------------------------------------------------------------------------------- */

enum {
    STEPS = 280,
    STEP_MS = 25,

    STARTED = 4, /* The start-up scratch, held since before READY, is dropped. */
    CATALOGUE_FROM = 20,
    CATALOGUE_STEPS = 40,
    INDEX_FROM = 60,
    INDEX_STEPS = 40,
    IMAGES_FROM = 95,
    IMAGES_COUNT = 26,
    PUBLISHED = 140, /* Images, posting lists and most of the catalogue are no longer needed. */

    RECORDS_PER_STEP = 1500,
    RECORDS = RECORDS_PER_STEP * CATALOGUE_STEPS,
    BUCKETS = 1 << 20,
    POSTING_LISTS = 256,
    REQUESTS_PER_STEP = 40,
};

/* Held since before READY: a tracer that attaches finds it there. */
static struct {
    unsigned char *templates;
    unsigned char *scratch;
} started;
static const size_t TEMPLATES_BYTES = 48000000;
static const size_t SCRATCH_BYTES = 12000000;

static char **records;
static size_t record_sizes[RECORDS];
static size_t records_held, records_room;

static uint64_t *buckets;
static struct {
    char *bytes;
    size_t size;
} postings[POSTING_LISTS];

static struct {
    unsigned char *full, *thumbnail;
} images[IMAGES_COUNT];
static const size_t WIDTH = 1920, HEIGHT = 1080, THUMBNAIL_WIDTH = 480, THUMBNAIL_HEIGHT = 270;

static unsigned char *cache[STEPS];

FRAME static void start_up(void)
{
    started.templates = checked(malloc(TEMPLATES_BYTES));
    memset(started.templates, 1, TEMPLATES_BYTES);
    started.scratch = checked(malloc(SCRATCH_BYTES));
    memset(started.scratch, 1, SCRATCH_BYTES);
}

FRAME static void finish_start_up(void)
{
    free(started.scratch);
    started.scratch = NULL;
    freed_baseline_bytes += SCRATCH_BYTES;
}

FRAME static char *parse_record(size_t size)
{
    char *record = checked(malloc(size));
    memset(record, 'r', size);
    return record;
}

FRAME static void load_catalogue(void)
{
    for (int i = 0; i < RECORDS_PER_STEP; i++) {
        if (records_held == records_room) {
            size_t room = records_room ? 2 * records_room : 1024;
            records = checked(realloc(records, room * sizeof *records));
            book(CATALOGUE, (int64_t)((room - records_room) * sizeof *records), records_room ? 0 : 1);
            records_room = room;
        }
        size_t size = size_between(300, 1800);
        records[records_held] = parse_record(size);
        record_sizes[records_held] = size;
        records_held++;
        book(CATALOGUE, (int64_t)size, 1);
    }
}

FRAME static void new_buckets(void)
{
    buckets = checked(calloc(BUCKETS, 2 * sizeof *buckets));
    memset(buckets, 1, BUCKETS * 2 * sizeof *buckets);
    book(INDEX, BUCKETS * 2 * (int64_t)sizeof *buckets, 1);
}

FRAME static void append_postings(int list, size_t more)
{
    size_t size = postings[list].size;
    postings[list].bytes = checked(realloc(postings[list].bytes, size + more));
    memset(postings[list].bytes + size, 'p', more);
    postings[list].size = size + more;
    book(INDEX, (int64_t)more, size ? 0 : 1);
}

FRAME static void build_index(void)
{
    if (!buckets)
        new_buckets();
    for (int list = 0; list < POSTING_LISTS; list++)
        append_postings(list, size_between(4000, 15000));
}

FRAME static void decode_image(int image)
{
    images[image].full = new_pixels(WIDTH, HEIGHT);
    book(IMAGES, (int64_t)(WIDTH * HEIGHT * 3), 1);
}

FRAME static void scale_image(int image)
{
    images[image].thumbnail = new_pixels(THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT);
    book(IMAGES, (int64_t)(THUMBNAIL_WIDTH * THUMBNAIL_HEIGHT * 3), 1);
}

FRAME static void resize_images(int image)
{
    decode_image(image);
    scale_image(image);
}

FRAME static void fill_cache(int step)
{
    size_t width = size_between(300, 560);
    cache[step] = new_pixels(width, THUMBNAIL_HEIGHT);
    book(CACHE, (int64_t)(width * THUMBNAIL_HEIGHT * 3), 1);
}

FRAME static char *render_page(size_t size)
{
    char *page = checked(malloc(size));
    memset(page, ' ', size);
    return page;
}

FRAME static void answer_requests(void)
{
    for (int i = 0; i < REQUESTS_PER_STEP; i++) {
        size_t size = size_between(2000, 64000);
        char *page = render_page(size);
        book(REQUESTS, (int64_t)size, 1);
        free(page);
        book(REQUESTS, -(int64_t)size, -1);
    }
}

FRAME static void publish(void)
{
    for (int image = 0; image < IMAGES_COUNT; image++) {
        free(images[image].full);
        book(IMAGES, -(int64_t)(WIDTH * HEIGHT * 3), -1);
        free(images[image].thumbnail);
        book(IMAGES, -(int64_t)(THUMBNAIL_WIDTH * THUMBNAIL_HEIGHT * 3), -1);
    }
    for (int list = 0; list < POSTING_LISTS; list++) {
        free(postings[list].bytes);
        book(INDEX, -(int64_t)postings[list].size, -1);
    }
    for (size_t record = 0; record < records_held; record++) {
        if (record % 3 == 0)
            continue;
        free(records[record]);
        book(CATALOGUE, -(int64_t)record_sizes[record], -1);
    }
}

static int within(int step, int from, int steps)
{
    return step >= from && step < from + steps;
}

FRAME static void serve(int step)
{
    answer_requests();
    fill_cache(step);
    if (step == STARTED)
        finish_start_up();
    if (within(step, CATALOGUE_FROM, CATALOGUE_STEPS))
        load_catalogue();
    if (within(step, INDEX_FROM, INDEX_STEPS))
        build_index();
    if (within(step, IMAGES_FROM, IMAGES_COUNT))
        resize_images(step - IMAGES_FROM);
    if (step == PUBLISHED)
        publish();
}

/* ---- Being a victim ----------------------------------------------------------------------------------------------- */

static void wait_for_a_line(void)
{
    char c;
    do {
        if (read(STDIN_FILENO, &c, 1) != 1) {
            fprintf(stderr, "demo: nobody told me to go\n");
            exit(1);
        }
    } while (c != '\n');
}

static void sleep_until(struct timespec start, int64_t ms)
{
    int64_t ns = start.tv_nsec + ms * 1000000;
    struct timespec until = {start.tv_sec + ns / 1000000000, ns % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0)
        ;
}

int main(void)
{
    static char output[4096];
    setvbuf(stdout, output, _IOLBF, sizeof output);

    start_up();
    printf("READY\n");
    wait_for_a_line();

    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int step = 0; step < STEPS; step++) {
        sleep_until(start, (int64_t)step * STEP_MS);
        serve(step);
    }
    sleep_until(start, (int64_t)STEPS * STEP_MS);

    printf("{");
    print_holdings("peak", at_peak);
    printf(",");
    print_holdings("end", live);
    printf("}\n");
    return 0;
}
