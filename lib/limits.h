/* Caps on what an image may claim, with the disk size that each still allows. The same caps as QEMU's. */
#ifndef LIB_LIMITS_H
#define LIB_LIMITS_H

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

/* 4 Mi entries: 2 PiB of disk with 64 KiB clusters, 128 GiB with 512-byte clusters. */
#define MAX_L1_BYTES (32 * MIB)

/* 1 Mi refcount blocks: 2 PiB of file with 64 KiB clusters and 16-bit refcounts, 128 GiB with 512 bytes. */
#define MAX_RT_BYTES (8 * MIB)

/* Host offsets of data and tables: bits 9 to 55. */
#define MAX_HOST_OFF (1ull << 56)

/* Snapshots of one image, and the bytes of their table. Independent of the disk's size. */
#define MAX_SNAPSHOTS   65536
#define MAX_SNAP_TABLE  (64 * MIB)
#define MAX_SNAP_STRING 65535
#define MAX_SNAP_EXTRA  1024 /* QEMU refuses images with more; we read and keep it */

/* Bitmaps: as many as QEMU opens; a table of 512 MiB of bits follows 16 TiB of disk at 4 KiB granularity. */
#define MAX_BITMAPS        65535
#define MAX_BITMAP_DIR     (64 * MIB)
#define MAX_BITMAP_TABLE   (8 * MIB)
#define MAX_BITMAP_NAME    1023
#define MIN_BITMAP_GRAN    9
#define MAX_BITMAP_GRAN    31

/* A backing file's name, and how deep a chain may be. */
#define MAX_BACKING_NAME  1023
#define MAX_BACKING_DEPTH 200

#define MIN_CLUSTER_BITS 9
#define MAX_CLUSTER_BITS 21

#endif
