# A library whose one function, `work`, has DWARF written by hand: DEPTH empty functions are inlined into each other,
# and its lines are in the file with the number FILE, of which there is one.
        .text
        .globl work
        .type work, @function
work:   nop
        nop
        ret
        .size work, .-work
work_end:
        .section .debug_abbrev,"",@progbits
        .uleb128 1              # compile unit, with children
        .uleb128 0x11
        .byte 1
        .uleb128 0x11, 0x01     # low_pc, addr
        .uleb128 0x12, 0x01     # high_pc, addr
        .uleb128 0x10, 0x17     # stmt_list, sec_offset
        .uleb128 0, 0
        .uleb128 2              # subprogram, with children
        .uleb128 0x2e
        .byte 1
        .uleb128 0x03, 0x08     # name, string
        .uleb128 0x11, 0x01
        .uleb128 0x12, 0x01
        .uleb128 0, 0
        .uleb128 3              # inlined subroutine, with children, without attributes
        .uleb128 0x1d
        .byte 1
        .uleb128 0, 0
        .uleb128 0
        .section .debug_info,"",@progbits
        .long info_end - info
info:   .value 4
        .long .debug_abbrev
        .byte 8
        .uleb128 1
        .quad work, work_end
        .long .debug_line
        .uleb128 2
        .string "from_dwarf"
        .quad work, work_end
        .fill DEPTH, 1, 3
        .fill DEPTH, 1, 0
        .byte 0, 0
info_end:
        .section .debug_line,"",@progbits
        .long line_end - line
line:   .value 4
        .long program - header
header: .byte 1, 1, 1, 1, 1, 13     # min instruction, max ops, default is_stmt, line base, line range, opcode base
        .byte 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1
        .byte 0                     # no directories
        .string "hand.c"
        .uleb128 0, 0, 0
        .byte 0
program:
        .byte 0, 9, 2               # set address
        .quad work
        .byte 4                     # set file
        .uleb128 FILE
        .byte 1                     # copy
        .byte 2                     # advance pc
        .uleb128 3
        .byte 0, 1, 1               # end sequence
line_end:
