// Opens a plugin for each job and closes it again; what the plugin holds stays.
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    for (int job = 0; job < 30; job++) {
        void *plugin = dlopen("/srv/app/plugin.so", RTLD_NOW);
        void (*run)(int) = (void (*)(int))dlsym(plugin, "run");
        usleep(200000);
        run(100);
        dlclose(plugin);
    }
    puts("done");
}
