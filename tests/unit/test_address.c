/* Addresses: prefixes, what X-Forwarded-For is worth, and what an address may use. */
#include "cmocka_all.h"

#include <stdio.h>

#include "base/err.h"
#include "server/address.h"

static struct mj_address address(const char *text)
{
    struct mj_address a;
    assert_int_equal(mj_address_parse(mj_str(text), &a), 0);
    return a;
}

static void prefixes(void **state)
{
    (void)state;
    static const struct {
        const char *prefix, *inside, *outside;
    } cases[] = {
        {"10.0.0.0/8", "10.255.1.2", "11.0.0.0"},
        {"10.1.2.3/8", "10.255.1.2", "9.255.255.255"}, /* the rest of the address does not count */
        {"192.0.2.128/25", "192.0.2.255", "192.0.2.127"},
        {"192.0.2.1", "192.0.2.1", "192.0.2.2"},
        {"192.0.2.1", "::ffff:192.0.2.1", "::192.0.2.1"},
        {"0.0.0.0/0", "203.0.113.9", "2001:db8::1"},
        {"::/0", "203.0.113.9", NULL},
        {"::1", "::1", "::2"},
        {"2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"},
        {"2001:db8:0:8::/61", "2001:db8:0:f::1", "2001:db8:0:10::"},
        {"::ffff:10.0.0.0/104", "10.9.9.9", "11.0.0.1"},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        struct mj_cidr c;
        assert_int_equal(mj_cidr_parse(mj_str(cases[i].prefix), &c), 0);
        struct mj_address in = address(cases[i].inside);
        assert_true(mj_cidr_has(&c, &in));
        if (cases[i].outside) {
            struct mj_address out = address(cases[i].outside);
            assert_false(mj_cidr_has(&c, &out));
        }
    }
    static const char *const bad[] = {"",         "x",         "10.0.0.0/33", "10.0.0.0/",
                                      "10.0.0/8", "::1/129",   "::1/-1",      "10.0.0.0/8 ",
                                      "::g",      "1.2.3.4/x", "/8",          "10.0.0.0/0008"};
    for (size_t i = 0; i < MJ_COUNT(bad); i++) {
        struct mj_cidr c;
        if (mj_cidr_parse(mj_str(bad[i]), &c) != MJ_ESYNTAX)
            fail_msg("%s is taken", bad[i]);
    }
}

static void texts(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"192.0.2.1", "192.0.2.1"},
                                           {"::ffff:192.0.2.1", "192.0.2.1"},
                                           {"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"},
                                           {"::1", "::/64"}};
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        char text[MJ_ADDRESS_TEXT];
        struct mj_address a = address(cases[i][0]), unit = mj_address_unit(&a);
        mj_address_text(&unit, text);
        assert_string_equal(text, cases[i][1]);
    }
}

static void forwarded(void **state)
{
    (void)state;
    static const struct {
        const char *peer;
        const char *headers; /* lines after the request line */
        const char *client;
    } cases[] = {
        {"203.0.113.1", "X-Forwarded-For: 1.1.1.1\r\n", "203.0.113.1"}, /* not trusted */
        {"10.0.0.1", "", "10.0.0.1"},
        {"10.0.0.1", "X-Forwarded-For: 198.51.100.7\r\n", "198.51.100.7"},
        {"10.0.0.1", "x-forwarded-for:  1.1.1.1 ,198.51.100.7 , 10.0.0.9\r\n", "198.51.100.7"},
        {"10.0.0.1", "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 198.51.100.7\r\n",
         "198.51.100.7"},
        {"10.0.0.1", "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-For: 10.0.0.2, ::1\r\n",
         "198.51.100.7"},
        {"::1", "X-Forwarded-For: 2001:db8::7\r\n", "2001:db8::7"},
        {"::1", "X-Forwarded-For: [2001:db8::7]:4711\r\n", "2001:db8::7"},
        {"::1", "X-Forwarded-For: [2001:db8::7]\r\n", "2001:db8::7"},
        {"10.0.0.1", "X-Forwarded-For: 198.51.100.7:4711\r\n", "198.51.100.7"},
        {"::ffff:10.0.0.1", "X-Forwarded-For: 198.51.100.7\r\n", "198.51.100.7"},
        {"10.0.0.1", "X-Forwarded-For: 10.0.0.3, 10.0.0.2\r\n", "10.0.0.3"}, /* proxies only */
        /* What is no address makes it the peer's, wherever a client may have put it. */
        {"10.0.0.1", "X-Forwarded-For: garbage\r\n", "10.0.0.1"},
        {"10.0.0.1", "X-Forwarded-For: 198.51.100.7, garbage, 10.0.0.2\r\n", "10.0.0.1"},
        {"10.0.0.1", "X-Forwarded-For: garbage, 198.51.100.7\r\n", "198.51.100.7"}, /* not read */
        {"10.0.0.1", "X-Forwarded-For: \r\n", "10.0.0.1"},
        {"10.0.0.1", "X-Forwarded-For: 198.51.100.7,\r\n", "10.0.0.1"},
        {"10.0.0.1", "X-Forwarded-For: [198.51.100.7]\r\n", "10.0.0.1"},
        {"10.0.0.1", "X-Forwarded-For: 198.51.100.7:x\r\n", "10.0.0.1"},
        {"10.0.0.1", "X-Forwarded-For: [2001:db8::7]x\r\n", "10.0.0.1"},
        {"10.0.0.1", "X-Forwarded-For: unknown, 10.0.0.3\r\n", "10.0.0.1"},
    };
    struct mj_cidr trusted[2];
    assert_int_equal(mj_cidr_parse(MJ_SPAN("10.0.0.0/24"), &trusted[0]), 0);
    assert_int_equal(mj_cidr_parse(MJ_SPAN("::1"), &trusted[1]), 0);
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        MJ_AUTO_BUF request = {0};
        struct mj_http_head head;
        struct mj_address peer = address(cases[i].peer), want = address(cases[i].client), got;
        mj_buf_printf(&request, "GET / HTTP/1.1\r\nHost: x\r\n%s\r\n", cases[i].headers);
        assert_true(mj_http_parse_request(mj_buf_span(&request), &head) > 0);
        mj_address_client(&peer, &head, trusted, 2, &got);
        if (memcmp(&got, &want, sizeof got) != 0)
            fail_msg("%s from %s", cases[i].headers, cases[i].peer);
        mj_address_client(&peer, &head, trusted, 0, &got);
        assert_memory_equal(&got, &peer, sizeof got);
    }
}

static void hosts(void **state)
{
    (void)state;
    struct mj_hosts h;
    struct mj_host *all[500], *one;
    char text[40];
    int64_t now = 1000000000;
    mj_hosts_init(&h, 100);
    struct mj_address a = address("192.0.2.1"), b = address("192.0.2.2");
    one = mj_hosts_ref(&h, &a, now);
    assert_ptr_equal(mj_hosts_ref(&h, &a, now), one);
    assert_int_equal(mj_hosts_connections(&h, &a), 2);
    assert_int_equal(mj_hosts_connections(&h, &b), 0);
    /* The bucket holds a second's worth, and fills at its rate. */
    assert_int_equal(mj_host_allowance(&h, one, now), 100);
    mj_host_spend(&h, one, 100);
    assert_int_equal(mj_host_allowance(&h, one, now), 0);
    assert_int_equal(mj_host_allowance(&h, one, now + 5000), 0);
    assert_int_equal(mj_host_allowance(&h, one, now += 500000), 50);
    /* Leaving and coming back does not fill it. */
    mj_hosts_unref(&h, one);
    mj_hosts_unref(&h, one);
    mj_hosts_sweep(&h, now);
    assert_int_equal(h.count, 1);
    assert_int_equal(mj_host_allowance(&h, mj_hosts_ref(&h, &a, now), now), 50);
    mj_hosts_unref(&h, one);
    mj_hosts_sweep(&h, now + 600000);
    assert_int_equal(h.count, 0);
    /* Many, which go. */
    for (unsigned i = 0; i < MJ_COUNT(all); i++) {
        snprintf(text, sizeof text, "10.0.%u.%u", i / 100, i % 100);
        struct mj_address unit = address(text);
        all[i] = mj_hosts_ref(&h, &unit, now);
    }
    assert_int_equal(h.count, MJ_COUNT(all));
    for (unsigned i = 0; i < MJ_COUNT(all); i += 2)
        mj_hosts_unref(&h, all[i]);
    mj_hosts_sweep(&h, now);
    assert_int_equal(h.count, MJ_COUNT(all) / 2);
    for (unsigned i = 1; i < MJ_COUNT(all); i += 2)
        assert_int_equal(mj_hosts_connections(&h, &all[i]->unit), 1);
    mj_hosts_deinit(&h);
    mj_hosts_init(&h, 0); /* no limit */
    one = mj_hosts_ref(&h, &a, now);
    mj_host_spend(&h, one, 1000000);
    assert_true(mj_host_allowance(&h, one, now) == SIZE_MAX);
    mj_hosts_unref(&h, one);
    mj_hosts_sweep(&h, now);
    assert_int_equal(h.count, 0);
    mj_hosts_deinit(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(prefixes), cmocka_unit_test(texts),
                                       cmocka_unit_test(forwarded), cmocka_unit_test(hosts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
