// See opened.c.
#define ROOM 312
#include "opened.c"
