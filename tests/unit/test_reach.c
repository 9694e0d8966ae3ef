/* Which addresses scripts may reach: tables, and the operator's list. */
#include "cmocka_all.h"

#include <stdio.h>

#include "base/err.h"
#include "deliver/reach.h"

static struct mj_address address(const char *text)
{
    struct mj_address a;
    assert_int_equal(mj_address_parse(mj_str(text), &a), 0);
    return a;
}

static void special(void **state)
{
    (void)state;
    static const char *const yes[] = {"0.0.0.0",
                                      "0.1.2.3",
                                      "10.0.0.5",
                                      "10.255.255.255",
                                      "100.64.0.1",
                                      "100.127.255.255",
                                      "127.0.0.1",
                                      "127.255.0.1",
                                      "169.254.169.254",
                                      "172.16.0.1",
                                      "172.31.255.255",
                                      "192.0.0.8",
                                      "192.0.2.1",
                                      "192.88.99.1",
                                      "192.168.1.1",
                                      "198.18.0.1",
                                      "198.19.255.255",
                                      "198.51.100.7",
                                      "203.0.113.9",
                                      "224.0.0.1",
                                      "239.255.255.255",
                                      "240.0.0.1",
                                      "255.255.255.255",
                                      "::",
                                      "::1",
                                      "::ffff:127.0.0.1",
                                      "::ffff:10.0.0.1",
                                      "::127.0.0.1",
                                      "::8.8.8.8",
                                      "::ffff:0:127.0.0.1",
                                      "64:ff9b::127.0.0.1",
                                      "64:ff9b::a00:1",
                                      "64:ff9b::192.168.0.1",
                                      "64:ff9b:1::1",
                                      "100::1",
                                      "2001::1",
                                      "2001:0:4136:e378:8000:63bf:3fff:fdd2",
                                      "2001:2::1",
                                      "2001:10::1",
                                      "2001:20::1",
                                      "2001:db8::1",
                                      "2002:7f00:1::",
                                      "2002:808:808::1",
                                      "3fff::1",
                                      "3fff:fff::1",
                                      "5f00::1",
                                      "fc00::1",
                                      "fd12:3456::1",
                                      "fe80::1",
                                      "febf::1",
                                      "fec0::1",
                                      "ff02::1",
                                      "ff0e::1",
                                      "4000::1",
                                      "8000::",
                                      "2a00:1450::5efe:10.0.0.1",
                                      "2a00:1450::200:5efe:192.168.1.1",
                                      "2a00::0:5efe:7f00:1"};
    static const char *const no[] = {
        "1.1.1.1",         "8.8.8.8",          "9.255.255.255",
        "11.0.0.0",        "100.63.255.255",   "100.128.0.0",
        "126.255.255.255", "128.0.0.1",        "169.253.255.255",
        "169.255.0.0",     "172.15.255.255",   "172.32.0.0",
        "192.0.1.0",       "192.167.255.255",  "192.169.0.0",
        "198.17.255.255",  "198.20.0.0",       "223.255.255.255",
        "::ffff:8.8.8.8",  "64:ff9b::8.8.8.8", "2001:4860:4860::8888",
        "2001:200::1",     "2606:4700::1111",  "2a00:1450::1",
        "2003::1",         "3ffe::1",          "2a00:1450::5efe:8.8.8.8"};
    for (size_t i = 0; i < MJ_COUNT(yes); i++) {
        struct mj_address a = address(yes[i]);
        if (!mj_address_special(&a))
            fail_msg("%s may be reached", yes[i]);
    }
    for (size_t i = 0; i < MJ_COUNT(no); i++) {
        struct mj_address a = address(no[i]);
        if (mj_address_special(&a))
            fail_msg("%s is said to be %s", no[i], mj_address_special(&a));
    }
    struct mj_address a = address("10.1.2.3");
    assert_string_equal(mj_address_special(&a), "a private address");
    a = address("64:ff9b::10.1.2.3");
    assert_string_equal(mj_address_special(&a), "a private address");
}

static void allowed(void **state)
{
    (void)state;
    static const struct {
        const char *rule, *host, *address;
        int port;
        bool may;
    } cases[] = {
        {"10.0.0.5", "10.0.0.5", "10.0.0.5", 80, true},
        {"10.0.0.5", "10.0.0.6", "10.0.0.6", 80, false},
        {"10.0.0.0/8", "x.example", "10.9.9.9", 1, true},
        {"10.0.0.0/8:8080", "x.example", "10.9.9.9", 8080, true},
        {"10.0.0.0/8:8080", "x.example", "10.9.9.9", 8081, false},
        {"10.0.0.5:443", "h", "::ffff:10.0.0.5", 443, true},
        {"hook.example", "HOOK.example.", "192.168.0.9", 443, true},
        {"hook.example.:443", "hook.example", "192.168.0.9", 443, true},
        {"hook.example:443", "hook.example", "192.168.0.9", 80, false},
        {"hook.example", "other.hook.example", "192.168.0.9", 80, false},
        {"::1", "h", "::1", 80, true},
        {"[::1]:8080", "h", "::1", 8080, true},
        {"[::1]:8080", "h", "::1", 80, false},
        {"fd00::/8", "h", "fd12::1", 80, true},
        {"[fd00::/8]:80", "h", "fd12::1", 80, true},
        {"localhost", "localhost", "127.0.0.1", 80, true},
        {"127.0.0.1", "localhost", "127.0.0.1", 80, true},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        struct mj_reach *r = mj_reach_new();
        struct mj_address a = address(cases[i].address);
        MJ_AUTO_BUF error = {0};
        if (mj_reach_allow(r, cases[i].rule, &error))
            fail_msg("%s: %s", cases[i].rule, mj_buf_cstr(&error));
        if (mj_reach_may(r, cases[i].host, &a, cases[i].port) != cases[i].may)
            fail_msg("%s: %s is %s", cases[i].rule, cases[i].address,
                     cases[i].may ? "not allowed" : "allowed");
        mj_reach_free(r);
    }
    struct mj_address home = address("127.0.0.1"), far = address("8.8.8.8");
    assert_false(mj_reach_may(NULL, "localhost", &home, 80));
    assert_true(mj_reach_may(NULL, "dns.example", &far, 80));
}

static void bad_rules(void **state)
{
    (void)state;
    static const char *const rules[] = {"",
                                        " ",
                                        "10.0.0.0/33",
                                        "a b",
                                        "host:",
                                        "host:0",
                                        "host:70000",
                                        "[::1",
                                        "[::1]x",
                                        "[host]:80",
                                        "http://host",
                                        "host/path",
                                        "::1/129",
                                        "h:x",
                                        "[]",
                                        "[]:80",
                                        "10.0.0.256",
                                        "10.1",
                                        "2130706433",
                                        "10.0.0.256.:80",
                                        "99999999999999999999"};
    struct mj_reach *r = mj_reach_new();
    for (size_t i = 0; i < MJ_COUNT(rules); i++) {
        MJ_AUTO_BUF error = {0};
        if (!mj_reach_allow(r, rules[i], &error))
            fail_msg("\"%s\" is taken", rules[i]);
        assert_true(error.len > 0);
    }
    mj_reach_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(special), cmocka_unit_test(allowed),
                                       cmocka_unit_test(bad_rules)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
