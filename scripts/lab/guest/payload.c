// SPDX-License-Identifier: GPL-2.0
/*
 * The stream that the corked socket sends: a 12-byte header and then 32-byte records.  Three of a record's
 * four words are the same in all records, one carries a sequence number.  Read as a pointer at any multiple of
 * 8, no word is a canonical address; its first byte is even, so it sets no SKBFL_ZEROCOPY_ENABLE; its third byte,
 * where nr_frags stands, is far over MAX_SKB_FRAGS.  So skb_release_data() meets a bad page whatever the phase.
 */
#include "load.h"

#define HEADER_LEN	12
#define RECORD_LEN	32
#define SEQUENCE_AT	12	/* two bytes, high byte first */

static const unsigned char header[HEADER_LEN] = {
	0x80, 0x60, 0x12, 0x34, 0x00, 0x01, 0x51, 0x80, 0x7f, 0xe2, 0x0f, 0x0a,
};

static const unsigned char record[RECORD_LEN] = {
	0x00, 0x5a, 0x58, 0x00, 0x04, 0x03, 0x02, 0x40, 0xc8, 0x53, 0xed, 0xa8, 0x00, 0x00, 0x73, 0x01,
	0x58, 0x05, 0xa4, 0x00, 0x00, 0x90, 0x21, 0xca, 0x74, 0x12, 0x2b, 0x5f, 0x4b, 0x00, 0x08, 0x4b,
};

static unsigned char payload_byte(size_t position)
{
	size_t sequence, offset;

	if (position < HEADER_LEN)
		return header[position];
	sequence = (position - HEADER_LEN) / RECORD_LEN;
	offset = (position - HEADER_LEN) % RECORD_LEN;
	if (offset == SEQUENCE_AT)
		return (unsigned char)(sequence >> 8);
	if (offset == SEQUENCE_AT + 1)
		return (unsigned char)sequence;
	return record[offset];
}

/* Fills buf with the part of the stream that begins at position. */
void payload(char *buf, size_t len, size_t position)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (char)payload_byte(position + i);
}
