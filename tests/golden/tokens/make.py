"""What spaCy's English tokenizer makes of some texts, in lower case: tokens.json. Needs spacy (written with 3.8)."""

import json
import pathlib

import spacy

ALONE = """... .. .... ..... … …… wait... wait.. wait.... ...and ..and and...so and..so and....so red…blue …red red… red……
red...Blue red..Blue red.Blue "..." (...) ..., red..., ....red '...' ...! !... 3...4 3..4 3. 3... U.S... a.. a... a.b A.B
.a .3 R... RE... RE. R. (red...) red...) "red..." e.g... e.g., e.g E.G. i.e. etc. etc... ...- -... .- -. ., ,. !. .! …, …!
- -- --- ---- – — —— red-blue red--blue red---blue red----blue red–blue red—blue red——blue --red red-- red- -red ~ ~~ red~blue
red-3 3-red 3-4 3-d 1--2 a-1 t-shirt close-ups x-ray well-lit 20th-century red-and-blue human-like-faces
! !! !!! ? ?? what?! what?? eyes! *** **red** __ _red_ red_blue == a=b 1=2 => -> --> <- // red//blue red/blue a/b 1/2 && red&blue
$$ $5 5$ US$5 5US$ £5 5€ #1 #red red# @ @@ red@blue.com % 50% + ++ red+blue 1+1 +1 +a a+ 5+ 1*2 2^3 2-3 :: red:: red:blue ;; red;blue
red,,blue red,blue red,Blue 3,000 1,a ' '' " "" ` `` ''red'' ``red`` “red” ‘red’ «red» [red] {red} (red) object(s) (s) <red> red<blue red>blue
dog's dogs' dog’s Dog'S 's it's its It's he's let's don't don’t dont can't cant cannot Cannot won't isn't isnt ain't should've shouldn't've
I'm i'm im I'd you're they've she'll who's what's whats there's that's those'd y'all c'mon o'clock ma'am 'em 'cause rock'n'roll gonna gotta
well were shell hell Shed ill id were's "isn't" (it's) 'tis dog's-head
a.m. 5am 5a.m. 12pm 13pm 10p.m. Mr. mr. Dr. dr. St. st. vs. Jan. jan. No. Ph.D. D.C. d.c. U.S. u.s. a. b. z. 1. x.y. Inc. inc. co. Mt. mt.
and/or w/o w/ s/he 10km 10cm 5g 5kg 5in 5ft 10m/s 5m² m² 30° 30°C 30°C. °C. °C 20th 1990s 1990's '90s 2x4 10x10 3d 3D 5T 5K
:) :-) ;) :( :D :/ 8) (8) red:) (red:) <3 xD o_o ^_^ -_- =) :3 red:3 (: ._. C++ c++ O.o 0.0 _red:)_
www.red.com red.com/blue-green http://red.com/a-b close-up.eyes red.jpg a.red-blue red-blue.Eyes red_a.b-c
ä. café naïve-looking 日本 red日本 ¿red? ¡red! ™ red™ © ©red red©blue → ★★ 5★ <unk> <start> &amp; \\n \\t""".split()

TEXTS = [
    "",
    " ",
    "Faces...and hands -- or eyes?!",
    "white text ... on black backgrounds",
    "The tops of buildings, cars, etc.",
    'objects with "round" edges; (e.g. balls)',
    "Dogs' heads (with the dog's ears) & cats",
    "red : ) blue",
    "can not  don 't",
    "a 50/50 mix of blue-green/red stripes, 3-d shapes: cubes...",
    "windows..doors..  walls",
    "Mr. Smith's dog isn't here at 5p.m.",
    "objects (8) and others :)",
    "text, e.g., 'STOP' signs.",
    "things that're round; they'd've been cut",
    "red\ttext\non signs",
]

nlp = spacy.blank("en")
tokens = [{"text": t, "tokens": [w.text.lower() for w in nlp(t) if not w.is_space]} for t in ALONE + TEXTS]
path = pathlib.Path(__file__).with_name("tokens.json")
lines = ",\n".join(json.dumps(t, ensure_ascii=False) for t in tokens)
path.write_text(f'{{"spacy": "{spacy.__version__}", "texts": [\n{lines}\n]}}\n', encoding="utf-8")
