/* Errors are small negative ints with one printer and one label each. Functions return 0 or a
 * positive result on success and a negative MJ_E… on failure; the label doubles as the `reason`
 * of the drop counters, so a code is added rather than overloaded. */
#pragma once

#define MJ_ERRORS(X)                                                                               \
    X(MJ_EINVAL, 1, "invalid", "invalid argument or value")                                        \
    X(MJ_ENOMEM, 2, "no_memory", "out of memory")                                                  \
    X(MJ_EIO, 3, "io", "input/output error")                                                       \
    X(MJ_EAGAIN, 4, "again", "would block")                                                        \
    X(MJ_ELIMIT, 5, "limit", "limit exceeded")                                                     \
    X(MJ_ENOENT, 6, "not_found", "not found")                                                      \
    X(MJ_ESYNTAX, 7, "syntax", "syntax error")                                                     \
    X(MJ_ECLOSED, 8, "closed", "closed")                                                           \
    /* DRISL / CBOR */                                                                             \
    X(MJ_ETRUNC, 20, "cbor_truncated", "input ends inside an item")                                \
    X(MJ_ETRAILING, 21, "cbor_trailing", "bytes after the item")                                   \
    X(MJ_EMINIMAL, 22, "cbor_not_minimal", "integer, length or tag not in its shortest form")      \
    X(MJ_EINDEF, 23, "cbor_indefinite", "indefinite length")                                       \
    X(MJ_ERESERVED, 24, "cbor_reserved", "reserved additional information")                        \
    X(MJ_EKEYTYPE, 25, "cbor_key_type", "map key is not text")                                     \
    X(MJ_EKEYORDER, 26, "cbor_key_order", "map keys out of order")                                 \
    X(MJ_EKEYDUP, 27, "cbor_key_duplicate", "duplicate map key")                                   \
    X(MJ_ETAG, 28, "cbor_tag", "tag other than 42")                                                \
    X(MJ_ESIMPLE, 29, "cbor_simple", "simple value other than false, true, null")                  \
    X(MJ_EFLOAT, 30, "cbor_float", "floating-point number")                                        \
    X(MJ_EINT, 31, "cbor_int_range", "integer beyond 64-bit signed range")                         \
    X(MJ_EUTF8, 32, "cbor_utf8", "text is not valid UTF-8")                                        \
    X(MJ_EDEPTH, 33, "cbor_depth", "nested too deeply")                                            \
    X(MJ_ETYPE, 34, "type", "item has the wrong type")                                             \
    /* CID, CAR */                                                                                 \
    X(MJ_ECID, 40, "cid", "malformed or unsupported CID")                                          \
    X(MJ_ECAR, 41, "car", "malformed CAR")                                                         \
    X(MJ_EHASH, 42, "block_hash", "block does not hash to its CID")                                \
    X(MJ_EBLOCK, 43, "block_missing", "block is not in the CAR")                                   \
    /* repositories */                                                                             \
    X(MJ_EMST, 44, "mst", "tree node breaks the rules of the MST")                                 \
    X(MJ_EPARTIAL, 45, "mst_partial", "needed part of the tree is missing")                        \
    X(MJ_EMISMATCH, 46, "mst_mismatch", "operation or root disagrees with the tree")               \
    X(MJ_ECOMMIT, 47, "commit_block", "commit block malformed or not version 3")                   \
    X(MJ_ESIG, 48, "signature", "signature does not verify")                                       \
    X(MJ_EKEY, 49, "key", "not a supported public key")                                            \
    /* frames and events */                                                                        \
    X(MJ_EFRAME, 50, "frame", "frame is not two CBOR maps")                                        \
    X(MJ_EFIELD, 51, "field", "required field missing or of the wrong type")                       \
    X(MJ_EPATH, 52, "op_path", "operation path is not collection/rkey")                            \
    X(MJ_EACTION, 53, "op_action", "unknown operation action")                                     \
    X(MJ_EOPCID, 54, "op_cid", "operation CID missing or not allowed here")                        \
    X(MJ_ETIME, 55, "time", "time is not a datetime")                                              \
    X(MJ_ETOOBIG, 56, "too_big", "commit marked tooBig")                                           \
    X(MJ_EDUPPATH, 57, "op_duplicate_path", "same path twice in one commit")                       \
    X(MJ_ERECORD, 58, "record", "record breaks the data model")                                    \
    X(MJ_ESEQ, 59, "seq", "seq not above the last one")                                            \
    X(MJ_EDID, 60, "did", "not a DID")                                                             \
    X(MJ_EREV, 61, "rev", "not a TID")                                                             \
    X(MJ_EBIG, 62, "frame_too_large", "frame above the size limit")

enum mj_err {
#define X(name, num, label, text) name = -(num),
    MJ_ERRORS(X)
#undef X
        MJ_ERR_MAX = 64 /* labels fit arrays indexed by -err */
};

/* Sentence for people, e.g. "bytes after the item". Never NULL. */
const char *mj_strerror(int err);
/* Metric label, e.g. "cbor_trailing". Never NULL. */
const char *mj_errlabel(int err);
