/* Campaigns over the whole zoo, as cmocka tests. */
#ifndef HARNESS_TOUR_H
#define HARNESS_TOUR_H

#include "tests/harness/campaign.h"
#include "tests/harness/zoo.h"

/*
 * What a test file tries on one animal: it fills in what its operation needs in @s (the image is there already)
 * and calls tour_try() for each.
 */
typedef void tour_ops(const struct zoo_animal *a, struct subject *s);

/* FERMATA_ZOO=NAME: that animal only. */
void tour_cuts(tour_ops *ops);
void tour_flushes(tour_ops *ops);
void tour_faults(tour_ops *ops);
void tour_allocs(tour_ops *ops);

/* @what: for messages, besides the animal's name */
void tour_try(struct subject *s, const char *what);

#endif
