#include "source/sim_text.h"

#include <stdio.h>

/* Sentences have one slot, %, which any of the language's topics fits. */
struct language {
    const char *code;
    uint32_t weight; /* of 100 */
    const char *sentences[14];
    const char *topics[18];
};

static const struct language languages[] = {
    {"en",
     44,
     {"just finished % and I have so many thoughts", "anyone else obsessed with % lately?",
      "reminder that % exists and it is wonderful", "I could talk about % for hours",
      "hot take: % is better on a rainy day", "today's plan: coffee, then %",
      "why does nobody warn you about %", "spent the whole morning on %, no regrets",
      "% again. you know how it is", "I think % made my week",
      "please tell me everything you know about %", "small joys: %",
      "my cat has strong opinions about %", "note to self: never start % after midnight"},
     {"Lua", "the moon over the harbour", "sourdough", "LuaJIT", "old synthesizers", "this garden",
      "a second-hand bicycle", "bird watching", "tabletop games", "the new museum wing",
      "writing a tiny compiler", "train journeys", "film photography", "my thesis", "fog",
      "a Neovim config in lua", "spreadsheets", "the election"}},
    {"ja",
     16,
     {"今日は%の日", "%が好きすぎる", "%のことばかり考えてる", "やっと%が終わった!",
      "%、最高でした", "誰か%について教えて", "朝から%", "%を見てたら一日が終わった", "久しぶりの%",
      "%はいいぞ", "明日も%がんばる", "%の写真を撮りました", "%ってこんなに難しかったっけ",
      "おやすみなさい、%の夢が見たい"},
     {"猫", "コーヒー", "月", "散歩", "Lua", "カメラ", "ラーメン", "お絵描き", "仕事", "新刊",
      "ゲーム", "電車", "雨", "ピアノ", "原稿", "ギター", "桜", "プログラミング"}},
    {"pt",
     12,
     {"hoje só quero saber de %", "gente, % é bom demais", "acordei pensando em %",
      "alguém mais apaixonado por %?", "ninguém me avisou sobre %", "fim de semana com % e café",
      "% salvou o meu dia", "saudade de %", "meu avô sempre falava de %", "não consigo parar com %",
      "bom dia pra quem ama %", "mais uma noite de %", "% e um bom livro",
      "juro que a culpa é de %"},
     {"lua cheia", "pão de queijo", "futebol", "a lua", "praia", "música", "chuva", "cinema",
      "programação em Lua", "feijoada", "açaí", "novela", "viola", "São João", "ônibus lotado",
      "maçã", "capoeira", "política"}},
    {"es",
     8,
     {"hoy toca %", "no puedo más con %", "¿alguien más enganchado a %?", "qué bonito es %",
      "nadie habla lo suficiente de %", "otra vez %, como siempre", "mañana seguimos con %",
      "mi abuela decía que % lo cura todo", "¡por fin %!", "café y %, el plan perfecto",
      "he soñado con %", "cuéntame algo sobre %", "un domingo de %", "% me da la vida"},
     {"la luna", "el fútbol", "la lluvia", "tortilla", "el otoño", "este disco", "Lua", "la huelga",
      "mi tesis", "el mar", "la guitarra", "un buen libro", "la niñez", "el tren de las ocho",
      "la montaña", "paella", "el ajedrez", "la radio"}},
    {"de",
     8,
     {"heute nur %, sonst nichts", "wer mag eigentlich keine Pause mit %?",
      "ich könnte stundenlang über % reden", "schon wieder %", "endlich Zeit für %", "% geht immer",
      "guten Morgen an alle außer %", "kleine Freuden: %", "mein Wochenende: %",
      "ohne % wäre die Woche länger", "Empfehlung des Tages: %", "habe % unterschätzt",
      "über % wird zu wenig gesprochen", "% und dazu Kaffee"},
     {"Käsekuchen", "Bahnfahren", "Lua", "Nebel", "Straßenmusik", "Regen", "Fußball", "Grünkohl",
      "Brettspiele", "Mondschein", "Gartenarbeit", "Schach", "Bücher", "Kaffee", "Übersetzungen",
      "Radfahren", "die Steuererklärung", "Schnee"}},
    {"fr",
     6,
     {"aujourd'hui, c'est %", "je ne me lasse pas de %", "qui d'autre adore % ?",
      "encore une soirée avec %", "le bonheur, c'est %", "on ne parle pas assez de %", "enfin % !",
      "j'ai rêvé de %", "petit matin, café et %", "merci à % d'exister", "tout est prétexte à %",
      "retour à %", "% sous la pluie", "demain, %"},
     {"la lune", "Lua", "la baguette", "le vélo", "ce musée", "la grève", "l'été", "la mer",
      "un vieux vinyle", "le théâtre", "la forêt", "mon chat", "le fromage", "la brocante",
      "le brouillard", "l'accordéon", "la dictée", "ce café"}},
    {"ko",
     6,
     {"오늘은 % 하는 날", "% 너무 좋다", "드디어 % 끝!", "아침부터 %", "% 추천해 주세요",
      "요즘 % 생각뿐", "% 사진 올려요", "내일도 %", "% 없이는 못 살아", "오랜만에 %",
      "비 오는 날에는 %", "% 때문에 잠을 못 잤다", "같이 % 할 사람?", "결국 %"},
     {"고양이", "커피", "달", "산책", "Lua", "사진", "라면", "그림", "공부", "책", "게임", "기차",
      "비", "피아노", "글쓰기", "기타", "벚꽃", "코딩"}},
};

static const char *const emoji[] = {"🌙",       "☕", "✨", "🐈", "🎧", "📷", "❤️", "👩🏽‍🚀",
                                    "🌧️", "😂"};
static const char *const tags[] = {"lua",    "moonjet", "caturday", "photography", "写真",
                                   "música", "gamedev", "books",    "nowplaying",  "lune"};
static const char *const sites[] = {"example.com", "lua.example.org", "news.example.net",
                                    "photos.example.com", "www.lua.org"};
static const char *const names[] = {
    "ana",  "bruno", "chiyo", "dara",   "eva",   "felix", "greta", "hana",   "ivan",    "joana",
    "kofi", "lena",  "mateo", "nina",   "oskar", "paula", "quinn", "rosa",   "sora",    "tomas",
    "ursa", "vera",  "wim",   "ximena", "yuki",  "zoe",   "luna",  "selene", "artemis", "diana"};

#define PICK(rng, array) ((array)[mj_rng_below(rng, MJ_COUNT(array))])

const char *mj_sim_name(struct mj_rng *rng) { return PICK(rng, names); }

static const struct language *pick_language(struct mj_rng *rng)
{
    uint32_t at = mj_rng_below(rng, 100);
    size_t i = 0;
    while (at >= languages[i].weight)
        at -= languages[i++].weight;
    return &languages[i];
}

static void sentence(struct mj_rng *rng, const struct language *l, struct mj_buf *out)
{
    const char *s = PICK(rng, l->sentences), *slot = strchr(s, '%');
    mj_buf_put(out, s, (size_t)(slot - s));
    mj_buf_puts(out, PICK(rng, l->topics));
    mj_buf_puts(out, slot + 1);
}

void mj_sim_phrase(struct mj_rng *rng, struct mj_buf *out)
{
    sentence(rng, pick_language(rng), out);
}

/* Appends the visible text of a facet, set off by a blank, and remembers its bytes. */
static struct mj_sim_facet *facet(struct mj_sim_text *t, enum mj_sim_facet_type type,
                                  const char *before, struct mj_span text, const char *after)
{
    struct mj_sim_facet *f = &t->facets[t->facet_count++];
    if (t->text.len)
        mj_buf_putc(&t->text, ' ');
    f->type = type;
    f->start = (uint32_t)t->text.len;
    mj_buf_puts(&t->text, before);
    mj_buf_put(&t->text, text.ptr, text.len);
    mj_buf_puts(&t->text, after);
    f->end = (uint32_t)t->text.len;
    return f;
}

static void add_mention(struct mj_sim_text *t, struct mj_span handle, struct mj_span did)
{
    struct mj_sim_facet *f = facet(t, MJ_SIM_MENTION, "@", handle, "");
    snprintf(f->value, sizeof f->value, "%.*s", (int)did.len, (const char *)did.ptr);
}

static void add_link(struct mj_rng *rng, struct mj_sim_text *t)
{
    const char *site = PICK(rng, sites);
    char shown[64];
    bool cut = mj_rng_chance(rng, 5000); /* clients shorten what they show */
    uint32_t page = mj_rng_below(rng, 100000);
    snprintf(shown, sizeof shown, "%s/%u", site, page);
    struct mj_sim_facet *f = facet(t, MJ_SIM_LINK, "", mj_str(shown), cut ? "…" : "");
    snprintf(f->value, sizeof f->value, "https://%s/%u?from=feed&x=<%u>", site, page, page % 7);
}

static void add_tag(struct mj_rng *rng, struct mj_sim_text *t)
{
    const char *tag = PICK(rng, tags);
    struct mj_sim_facet *f = facet(t, MJ_SIM_TAG, "#", mj_str(tag), "");
    snprintf(f->value, sizeof f->value, "%s", tag);
}

void mj_sim_text(struct mj_rng *rng, struct mj_span handle, struct mj_span did,
                 struct mj_sim_text *out)
{
    const struct language *l = pick_language(rng);
    out->text.len = 0;
    out->facet_count = 0;
    out->lang = l->code;
    if (mj_rng_chance(rng, 500) && handle.len)
        add_mention(out, handle, did);
    uint32_t sentences = 1 + mj_rng_below(rng, 3);
    for (uint32_t i = 0; i < sentences; i++) {
        if (out->text.len)
            mj_buf_puts(&out->text, i && mj_rng_chance(rng, 1500) ? "\n\n" : " ");
        sentence(rng, l, &out->text);
        if (mj_rng_chance(rng, 2500)) {
            mj_buf_putc(&out->text, ' ');
            mj_buf_puts(&out->text, PICK(rng, emoji));
        }
    }
    if (mj_rng_chance(rng, 300)) {
        mj_buf_puts(&out->text, " \"<&>\\\t\"");
    }
    if (mj_rng_chance(rng, 1000))
        add_link(rng, out);
    for (uint32_t i = 0; i < 2 && mj_rng_chance(rng, 1000); i++)
        add_tag(rng, out);
}
