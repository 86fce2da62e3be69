// A program without a hazard: it holds, drops and works as it is told.
#include "queue.h"

int main(void)
{
    serve(obey_queue);
}
