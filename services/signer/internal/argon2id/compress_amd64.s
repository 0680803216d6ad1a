#include "textflag.h"

// Bytes of each 64-bit word, rotated right by 24 and by 16 bits.
DATA ·right24<>+0(SB)/8, $0x0201000706050403
DATA ·right24<>+8(SB)/8, $0x0a09080f0e0d0c0b
DATA ·right24<>+16(SB)/8, $0x0201000706050403
DATA ·right24<>+24(SB)/8, $0x0a09080f0e0d0c0b
GLOBL ·right24<>(SB), RODATA|NOPTR, $32

DATA ·right16<>+0(SB)/8, $0x0100070605040302
DATA ·right16<>+8(SB)/8, $0x09080f0e0d0c0b0a
DATA ·right16<>+16(SB)/8, $0x0100070605040302
DATA ·right16<>+24(SB)/8, $0x09080f0e0d0c0b0a
GLOBL ·right16<>(SB), RODATA|NOPTR, $32

// a += b + 2*low(a)*low(b), in four words at a time. spec: RFC9106 §3.6
#define ADD(a, b, t) \
	VPMULUDQ b, a, t; \
	VPADDQ   b, a, a; \
	VPADDQ   t, t, t; \
	VPADDQ   t, a, a

// GB on four columns of a state of 16 words: a, b, c, d are its rows. spec: RFC9106 §3.6
#define GB(a, b, c, d, t) \
	ADD(a, b, t); \
	VPXOR   a, d, d; \
	VPSHUFD $0xB1, d, d; \
	ADD(c, d, t); \
	VPXOR   c, b, b; \
	VPSHUFB Y14, b, b; \
	ADD(a, b, t); \
	VPXOR   a, d, d; \
	VPSHUFB Y15, d, d; \
	ADD(c, d, t); \
	VPXOR   c, b, b; \
	VPADDQ  b, b, t; \
	VPSRLQ  $63, b, b; \
	VPXOR   t, b, b

// P on two states of 16 words, Y0 to Y3 and Y4 to Y7: GB on the columns, then on the diagonals.
#define P \
	GB(Y0, Y1, Y2, Y3, Y8); \
	GB(Y4, Y5, Y6, Y7, Y9); \
	VPERMQ $0x39, Y1, Y1; \
	VPERMQ $0x4E, Y2, Y2; \
	VPERMQ $0x93, Y3, Y3; \
	VPERMQ $0x39, Y5, Y5; \
	VPERMQ $0x4E, Y6, Y6; \
	VPERMQ $0x93, Y7, Y7; \
	GB(Y0, Y1, Y2, Y3, Y8); \
	GB(Y4, Y5, Y6, Y7, Y9); \
	VPERMQ $0x93, Y1, Y1; \
	VPERMQ $0x4E, Y2, Y2; \
	VPERMQ $0x39, Y3, Y3; \
	VPERMQ $0x93, Y5, Y5; \
	VPERMQ $0x4E, Y6, Y6; \
	VPERMQ $0x39, Y7, Y7

// y = previous ^ reference at an offset; out = y, or out ^ y.
#define TAKE(at, y) \
	VMOVDQU at(SI)(AX*1), y; \
	VPXOR   at(DX)(AX*1), y, y; \
	VPAND   at(DI)(AX*1), Y13, Y10; \
	VPXOR   y, Y10, Y10; \
	VMOVDQU Y10, at(DI)(AX*1)

// Two rows of 16 bytes each make four words of a state.
#define GATHER(at, x, y) \
	VMOVDQU     at(R8)(AX*1), x; \
	VINSERTI128 $1, (at+128)(R8)(AX*1), y, y

// out ^= the words of a state, where they came from.
#define GIVE(at, x, y) \
	VEXTRACTI128 $1, y, X10; \
	VPXOR        at(DI)(AX*1), x, X11; \
	VPXOR        (at+128)(DI)(AX*1), X10, X10; \
	VMOVDQU      X11, at(DI)(AX*1); \
	VMOVDQU      X10, (at+128)(DI)(AX*1)

// func compress(out, previous, reference, scratch *block, with uint64)
TEXT ·compress(SB), NOSPLIT, $0-40
	MOVQ out+0(FP), DI
	MOVQ previous+8(FP), SI
	MOVQ reference+16(FP), DX
	MOVQ scratch+24(FP), R8
	VPBROADCASTQ with+32(FP), Y13
	VMOVDQU ·right24<>(SB), Y14
	VMOVDQU ·right16<>(SB), Y15

	// The reference is anywhere in the memory: ask for all of it at once.
	XORQ AX, AX
ahead:
	PREFETCHT0 (DX)(AX*1)
	PREFETCHT0 (DI)(AX*1)
	ADDQ $64, AX
	CMPQ AX, $1024
	JNE  ahead

	// Rows of 16 words, two at a time.
	XORQ AX, AX
rows:
	TAKE(0, Y0)
	TAKE(32, Y1)
	TAKE(64, Y2)
	TAKE(96, Y3)
	TAKE(128, Y4)
	TAKE(160, Y5)
	TAKE(192, Y6)
	TAKE(224, Y7)
	P
	VMOVDQU Y0, 0(R8)(AX*1)
	VMOVDQU Y1, 32(R8)(AX*1)
	VMOVDQU Y2, 64(R8)(AX*1)
	VMOVDQU Y3, 96(R8)(AX*1)
	VMOVDQU Y4, 128(R8)(AX*1)
	VMOVDQU Y5, 160(R8)(AX*1)
	VMOVDQU Y6, 192(R8)(AX*1)
	VMOVDQU Y7, 224(R8)(AX*1)
	ADDQ $256, AX
	CMPQ AX, $1024
	JNE  rows

	// Columns of eight pairs of words, two at a time.
	XORQ AX, AX
columns:
	GATHER(0, X0, Y0)
	GATHER(256, X1, Y1)
	GATHER(512, X2, Y2)
	GATHER(768, X3, Y3)
	GATHER(16, X4, Y4)
	GATHER(272, X5, Y5)
	GATHER(528, X6, Y6)
	GATHER(784, X7, Y7)
	P
	GIVE(0, X0, Y0)
	GIVE(256, X1, Y1)
	GIVE(512, X2, Y2)
	GIVE(768, X3, Y3)
	GIVE(16, X4, Y4)
	GIVE(272, X5, Y5)
	GIVE(528, X6, Y6)
	GIVE(784, X7, Y7)
	ADDQ $32, AX
	CMPQ AX, $128
	JNE  columns

	VZEROUPPER
	RET
