// SPDX-License-Identifier: GPL-2.0
/* Damage to the members of one sk_buff and its shared info. */
#include <linux/mm.h>
#include <linux/version.h>

#include "faults.h"

#define FREE_ORDER	6	/* pages of this order go back to the buddy allocator at once */

static skb_frag_t *first_frag(struct lab_fault *f)
{
	return skb_shinfo(f->skb)->nr_frags ? &skb_shinfo(f->skb)->frags[0] : NULL;
}

static int nr_frags_huge(struct lab_fault *f)
{
	SET(f, skb_shinfo(f->skb), nr_frags, 200);
	return 0;
}

static int nr_frags_less(struct lab_fault *f)
{
	struct skb_shared_info *shinfo = skb_shinfo(f->skb);

	if (shinfo->nr_frags < 2)
		return -EINVAL;
	SET(f, shinfo, nr_frags, shinfo->nr_frags - 1);
	return 0;
}

/* The fragment that is one too many was never filled in. */
static int nr_frags_more(struct lab_fault *f)
{
	struct skb_shared_info *shinfo = skb_shinfo(f->skb);

	if (skb_frag_page(&shinfo->frags[shinfo->nr_frags]))
		return -EINVAL;
	SET(f, shinfo, nr_frags, shinfo->nr_frags + 1);
	return 0;
}

/* The page pointer is the first word of a fragment, whatever its name. */
static int set_page(struct lab_fault *f, unsigned long page)
{
	skb_frag_t *frag = first_frag(f);

	if (!frag)
		return -EINVAL;
	lab_write(f, "frags[0].page", frag, &page, sizeof(page));
	return 0;
}

static int frag_page_wild(struct lab_fault *f)
{
	return set_page(f, LAB_WILD);
}

static int frag_page_null(struct lab_fault *f)
{
	return set_page(f, 0);
}

/* Memory, but no struct page. */
static int frag_page_other(struct lab_fault *f)
{
	return set_page(f, (unsigned long)f->sk);
}

static int frag_page_inside(struct lab_fault *f)
{
	skb_frag_t *frag = first_frag(f);

	return frag ? set_page(f, (unsigned long)skb_frag_page(frag) + 8) : -EINVAL;
}

/* A struct page, but of a page that nobody has. */
static int frag_page_free(struct lab_fault *f)
{
	struct page *pages = alloc_pages(GFP_KERNEL, FREE_ORDER);

	if (!pages)
		return -ENOMEM;
	__free_pages(pages, FREE_ORDER);
	return set_page(f, (unsigned long)(pages + 3));
}

/* Behind the page stand the size and the offset.  Their names differ; the kernel's own accessors say if that is right. */
static int set_frag(struct lab_fault *f, const char *member, int at, u32 value)
{
	skb_frag_t *frag = first_frag(f);

	lab_write(f, member, (u8 *)frag + at, &value, sizeof(value));
	return 0;
}

static int frag_offset(struct lab_fault *f)
{
	skb_frag_t *frag = first_frag(f);
	u32 value;

	if (!frag)
		return -EINVAL;
	value = page_size(compound_head(skb_frag_page(frag))) + 64;
	set_frag(f, "frags[0].offset", sizeof(long) + sizeof(u32), value);
	return skb_frag_off(frag) == value ? 0 : -EINVAL;
}

static int frag_size(struct lab_fault *f)
{
	skb_frag_t *frag = first_frag(f);
	u32 value;

	if (!frag)
		return -EINVAL;
	value = page_size(compound_head(skb_frag_page(frag))) + skb_frag_size(frag);
	set_frag(f, "frags[0].size", sizeof(long), value);
	return skb_frag_size(frag) == value ? 0 : -EINVAL;
}

static int frag_list_wild(struct lab_fault *f)
{
	SET(f, skb_shinfo(f->skb), frag_list, LAB_WILD);
	return 0;
}

/* Memory, but no sk_buff. */
static int frag_list_other(struct lab_fault *f)
{
	SET(f, skb_shinfo(f->skb), frag_list, f->sk);
	return 0;
}

static int frag_list_self(struct lab_fault *f)
{
	SET(f, skb_shinfo(f->skb), frag_list, f->skb);
	return 0;
}

static int frag_list_cycle(struct lab_fault *f)
{
	struct sk_buff *first = skb_shinfo(f->skb)->frag_list, *last = first;

	if (!first || !first->next)
		return -EINVAL;
	while (last->next)
		last = last->next;
	SET(f, last, next, first);
	return 0;
}

static int len_more(struct lab_fault *f)
{
	SET(f, f->skb, len, f->skb->len + 100);
	return 0;
}

static int len_less(struct lab_fault *f)
{
	SET(f, f->skb, len, f->skb->len - 8);
	return 0;
}

static int data_len_more(struct lab_fault *f)
{
	SET(f, f->skb, data_len, f->skb->len + 100);
	return 0;
}

/* len follows, so that only the fragments know. */
static int data_len_less(struct lab_fault *f)
{
	if (f->skb->data_len < 100)
		return -EINVAL;
	SET(f, f->skb, data_len, f->skb->data_len - 100);
	SET(f, f->skb, len, f->skb->len - 100);
	return 0;
}

static int tail_behind_end(struct lab_fault *f)
{
	SET(f, f->skb, tail, f->skb->end + 64);
	return 0;
}

static int data_before_head(struct lab_fault *f)
{
	SET(f, f->skb, data, f->skb->head - 64);
	return 0;
}

static int data_behind_tail(struct lab_fault *f)
{
	SET(f, f->skb, data, skb_tail_pointer(f->skb) + 16);
	return 0;
}

static int head_wild(struct lab_fault *f)
{
	SET(f, f->skb, head, LAB_WILD);
	return 0;
}

static int head_null(struct lab_fault *f)
{
	SET(f, f->skb, head, NULL);
	return 0;
}

/* The buffer begins inside its object; tail and end, which count from it, move along. */
static int head_shifted(struct lab_fault *f)
{
	SET(f, f->skb, head, f->skb->head + 64);
	return 0;
}

static int end_wild(struct lab_fault *f)
{
	SET(f, f->skb, end, 0x7fffff00);
	return 0;
}

/* Less than a shared info before the object's end. */
static int end_shifted(struct lab_fault *f)
{
	SET(f, f->skb, end, f->skb->end + 64);
	return 0;
}

static int truesize_small(struct lab_fault *f)
{
	SET(f, f->skb, truesize, 16);
	lab_also(f, "sock.accounting", f->sk);
	lab_also(f, "sock.accounting", f->skb->sk);
	return 0;
}

static int truesize_huge(struct lab_fault *f)
{
	SET(f, f->skb, truesize, 0x7fff0000);
	lab_also(f, "sock.accounting", f->sk);
	lab_also(f, "sock.accounting", f->skb->sk);
	return 0;
}

static int set_users(struct lab_fault *f, u32 value)
{
	lab_write(f, "users", &f->skb->users, &value, sizeof(value));
	return 0;
}

static int users_zero(struct lab_fault *f)
{
	return set_users(f, 0);
}

/* What refcount_t leaves behind when it was counted below zero. */
static int users_saturated(struct lab_fault *f)
{
	return set_users(f, (u32)REFCOUNT_SATURATED);
}

static int set_dataref(struct lab_fault *f, u32 value)
{
	lab_write(f, "dataref", &skb_shinfo(f->skb)->dataref, &value, sizeof(value));
	return 0;
}

static int dataref_zero(struct lab_fault *f)
{
	return set_dataref(f, 0);
}

/* Shared, but never cloned. */
static int dataref_more(struct lab_fault *f)
{
	return f->skb->cloned ? -EINVAL : set_dataref(f, 2);
}

/* More users of the payload than users. */
static int dataref_payload(struct lab_fault *f)
{
	return set_dataref(f, (3 << SKB_DATAREF_SHIFT) + 1);
}

static int sk_wild(struct lab_fault *f)
{
	SET(f, f->skb, sk, LAB_WILD);
	return 0;
}

/* The first socket that was published, which holds nothing of this one. */
static int sk_foreign(struct lab_fault *f)
{
	struct sock *other = lab_entries[0].socket->sk;

	if (!f->skb->sk || other == f->sk)
		return -EINVAL;
	SET(f, f->skb, sk, other);
	lab_also(f, "sock.accounting", f->sk);
	lab_also(f, "sock.accounting", other);
	return 0;
}

static int gso_type(struct lab_fault *f)
{
	struct skb_shared_info *shinfo = skb_shinfo(f->skb);

	SET(f, shinfo, gso_type, 0xdead0000);
	SET(f, shinfo, gso_size, 1000);
	SET(f, shinfo, gso_segs, 2);
	return 0;
}

/* A segment size, but no type. */
static int gso_size(struct lab_fault *f)
{
	SET(f, skb_shinfo(f->skb), gso_size, 0xbeef);
	return 0;
}

static int gso_segs(struct lab_fault *f)
{
	SET(f, skb_shinfo(f->skb), gso_segs, 0xfff0);
	return 0;
}

static int tx_flags(struct lab_fault *f)
{
	SET(f, skb_shinfo(f->skb), tx_flags, 0xff);
	return 0;
}

/* As if zerocopy data were in it, with a callback that is none. */
static int zerocopy(struct lab_fault *f)
{
	struct skb_shared_info *shinfo = skb_shinfo(f->skb);

/* 06b4feb37e64 (v5.12) net: group skb_shinfo zerocopy related bits together. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 12, 0)
	SET(f, shinfo, tx_flags, SKBTX_ZEROCOPY_FRAG);
#else
	SET(f, shinfo, flags, SKBFL_ZEROCOPY_FRAG);
#endif
	SET(f, shinfo, destructor_arg, LAB_WILD);
	return 0;
}

static int header_transport(struct lab_fault *f)
{
	SET(f, f->skb, transport_header, 0xfff0);
	return 0;
}

static int header_network(struct lab_fault *f)
{
	SET(f, f->skb, network_header, f->skb->end + 32);
	return 0;
}

static int header_mac(struct lab_fault *f)
{
	SET(f, f->skb, mac_header, 0x7ff0);
	return 0;
}

/* The copy goes on past the end: first into the room that is left, then into the shared info. */
static int overrun_payload(struct lab_fault *f)
{
	u8 *tail = skb_tail_pointer(f->skb), *end = skb_end_pointer(f->skb);
	u32 room = end - tail;

	if (!f->bytes || f->data_len < room + f->bytes)
		return -EINVAL;
	if (room)
		lab_write(f, "tail", tail, f->data, room);
	lab_write(f, "shinfo", end, f->data + room, f->bytes);
	return 0;
}

#define AFTER_HEAD	"skb.order skb.headers skb.truesize " LAB_AFTER_OVERRUN

const struct lab_kind lab_skb_kinds[] = {
	{ "overrun-payload", "shinfo.overrun", LAB_AFTER_OVERRUN, overrun_payload },
	{ "nr-frags-huge", "shinfo.nr_frags", "shinfo.frag shinfo.overrun skb.len", nr_frags_huge },
	{ "nr-frags-less", "skb.len shinfo.nr_frags", NULL, nr_frags_less },
	{ "nr-frags-more", "shinfo.frag shinfo.nr_frags", NULL, nr_frags_more },
	{ "frag-page-wild", "shinfo.frag", NULL, frag_page_wild },
	{ "frag-page-null", "shinfo.frag", NULL, frag_page_null },
	{ "frag-page-other", "shinfo.frag", NULL, frag_page_other },
	{ "frag-page-inside", "shinfo.frag", NULL, frag_page_inside },
	{ "frag-page-free", "shinfo.frag", NULL, frag_page_free },
	{ "frag-offset", "shinfo.frag", NULL, frag_offset },
	{ "frag-size", "shinfo.frag", "skb.len", frag_size },
	{ "frag-list-wild", "shinfo.frag_list", "skb.len", frag_list_wild },
	{ "frag-list-other", "shinfo.frag_list", "skb.len", frag_list_other },
	{ "frag-list-self", "shinfo.frag_list", "skb.len", frag_list_self },
	{ "frag-list-cycle", "shinfo.frag_list", "skb.len", frag_list_cycle },
	{ "len-more", "skb.len", NULL, len_more },
	{ "len-less", "skb.len", NULL, len_less },
	{ "data-len-more", "skb.len", NULL, data_len_more },
	{ "data-len-less", "skb.len", NULL, data_len_less },
	{ "tail-behind-end", "skb.order", "skb.len", tail_behind_end },
	{ "data-before-head", "skb.order", "skb.len", data_before_head },
	{ "data-behind-tail", "skb.order", "skb.len", data_behind_tail },
	{ "head-wild", "head.buffer skb.order", AFTER_HEAD, head_wild },
	{ "head-null", "head.buffer skb.order", AFTER_HEAD, head_null },
	{ "head-shifted", "head.buffer skb.order", AFTER_HEAD, head_shifted },
	{ "end-wild", "skb.order head.buffer", AFTER_HEAD, end_wild },
	{ "end-shifted", "head.buffer skb.order", AFTER_HEAD " shinfo.overrun", end_shifted },
	{ "truesize-small", "skb.truesize", NULL, truesize_small },
	{ "truesize-huge", "skb.truesize", NULL, truesize_huge },
	{ "users-zero", "skb.users", NULL, users_zero },
	{ "users-saturated", "skb.users", NULL, users_saturated },
	{ "dataref-zero", "shinfo.dataref", NULL, dataref_zero },
	{ "dataref-more", "shinfo.dataref", NULL, dataref_more },
	{ "dataref-payload", "shinfo.dataref", NULL, dataref_payload },
	{ "sk-wild", "skb.sk", NULL, sk_wild },
	{ "sk-foreign", "skb.sk", NULL, sk_foreign },
	{ "gso-type", "shinfo.gso", NULL, gso_type },
	{ "gso-size", "shinfo.gso", NULL, gso_size },
	{ "gso-segs", "shinfo.gso", NULL, gso_segs },
	{ "tx-flags", "shinfo.tx_flags", NULL, tx_flags },
	{ "zerocopy", "shinfo.tx_flags", NULL, zerocopy },
	{ "header-transport", "skb.headers", NULL, header_transport },
	{ "header-network", "skb.headers", NULL, header_network },
	{ "header-mac", "skb.headers", NULL, header_mac },
	{ }
};
