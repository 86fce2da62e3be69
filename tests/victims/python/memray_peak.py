"""What memray saw at the peak: of each holder bytes, then function, file and line from the innermost on, by tabs."""

import sys

import memray

reader = memray.FileReader(sys.argv[1])
for record in reader.get_high_watermark_allocation_records(merge_threads=True):
    words = [str(record.size)]
    for function, file, line in record.stack_trace():
        words += [function, file, str(line)]
    print("\t".join(words))
