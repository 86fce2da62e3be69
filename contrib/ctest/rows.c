/* Holds so many rows of a kibibyte at once. */
#include <stdlib.h>
#include <string.h>

static char *row(int number) {
  char *made = malloc(1024);
  if (made)
    memset(made, number, 1024);
  return made;
}

int main(int argc, char **argv) {
  int count = argc > 1 ? atoi(argv[1]) : 0;
  char **rows = calloc(count, sizeof *rows);
  for (int number = 0; number < count; number++)
    rows[number] = row(number);
  for (int number = 0; number < count; number++)
    free(rows[number]);
  free(rows);
  return 0;
}
