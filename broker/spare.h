/*
 * spare.h - descriptors kept back, so that what must be opened can be opened when clients have used up all
 * others.
 *
 *   spare_give()  ->  the reload reads the configuration's files  ->  spare_take()
 *
 * Nothing may be accepted in between: the loop thread does not, and during a reload the listeners pause.
 */
#ifndef BRAMBLE_SPARE_H
#define BRAMBLE_SPARE_H

/* A reload has one file open at a time, below the folders of http_dir, which may be nested sixteen deep. */
enum { SPARE_FDS = 24 };

struct spare {
    int fd[SPARE_FDS];
};

/* Takes none yet. */
void spare_init(struct spare *spare);
/* Takes as many as are missing and can be had. */
void spare_take(struct spare *spare);
/* Closes them all. */
void spare_give(struct spare *spare);

#endif
