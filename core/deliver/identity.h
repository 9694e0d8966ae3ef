/* DID documents: what they say about an account. They come from strangers' servers, so they are
 * read value by value, nothing is believed that is not checked, and whatever is odd counts as not
 * there.
 *
 *   id                       must be the DID that was asked for
 *   alsoKnownAs              the first "at://HANDLE" is the handle it claims
 *   verificationMethod       the first "#atproto": the signing key
 *                            the first "#atproto_label": the key of its labels
 *   service                  the first "#atproto_pds": where the repository is
 *                            the first "#atproto_labeler": where its labels are */
#pragma once

#include "base/bytes.h"

#define MJ_DOCUMENT_MAX (256u << 10) /* bytes */

/* What a document claims; each text is owned and "" when there is none. */
struct mj_claims {
    char handle[256]; /* in lower case, not verified */
    char pds[512];    /* "https://host" or "https://host:port" */
    char key[80];     /* "did:key:z…" */
    char labeler[512], label_key[80];
};

/* Reads the document of that DID. 0; MJ_ESYNTAX when it is no JSON object; MJ_EDID when it is about
 * another DID. */
int mj_identity_parse(struct mj_span json, struct mj_span did, struct mj_claims *out);

/* Where the document of a DID is to be had, appended to `url`: did:plc from the directory, did:web
 * from its host. MJ_EDID for anything else, and for hosts that no DID may name. */
int mj_identity_url(struct mj_span did, const char *plc, struct mj_buf *url);
/* May the handle be looked up: is its top-level domain one of the public internet (or .test)? */
bool mj_handle_public(struct mj_span handle);
