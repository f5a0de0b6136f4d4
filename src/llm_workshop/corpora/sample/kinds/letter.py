"""Letters, e-mails and notes. Truth: ``relation``, ``purpose``, ``to``, ``from``, ``level`` of speech."""

from __future__ import annotations

import random

from ..content import letters as c
from ..content import places
from ..content.letters_more import MORE
from ..draft import Draft
from ..korean import has_final
from ..templates import render
from .diary import DISHES, HOBBIES, SEA_TOWNS
from .phrases import chance, choose_lines, pick, weighted

_LETTERS = c.LETTERS + MORE
_LEVELS = {"어른": "해요", "선생님": "합쇼", "친구": "해", "동생": "해", "이웃": "해요", "업무": "합쇼"}
_SEASONS = {1: "겨울", 2: "겨울", 3: "봄", 4: "봄", 5: "봄", 6: "여름", 7: "여름", 8: "여름", 9: "가을", 10: "가을", 11: "가을", 12: "겨울"}
_GIFTS = ("김치", "고구마", "밑반찬", "곶감", "귤", "옥수수", "감자", "쑥떡", "사과", "장조림", "멸치볶음", "깻잎장아찌", "식혜", "호박엿", "약과", "밤", "단감", "배", "물김치", "송편")
_PROJECTS = ("신제품 발표회", "누리집 개편", "고객 설문", "신입 사원 교육", "가을 행사", "예산안", "업무 보고서", "사내 도서관", "봉사 활동", "시장 조사", "연간 계획", "안전 교육")
_TEAMS = ("총무팀", "기획팀", "영업팀", "홍보팀", "개발팀", "인사팀", "디자인팀", "연구팀", "고객지원팀", "교육팀")
_SHOPS = ("가온상사", "누리몰", "한울생활", "다온마켓", "별하상회", "라온몰", "솔바상사")
_THINGS = ("책상", "운동화", "가습기", "이불", "커피잔", "책장", "우산", "겨울 외투", "무선 이어폰", "전기 포트", "의자", "배낭", "달력", "화분")
_FLOWERS = ("카네이션", "화분", "손수건", "스카프", "찻잔")
_WORD_MONTHS = (("벚꽃", (4,)), ("꽃이 피는", (3, 4)), ("매미", (7, 8)), ("장마", (6, 7)), ("단풍", (10, 11)), ("저물어", (12,)), ("눈이", (12, 1, 2)), ("교정에", (3, 4, 5)))
_VISITS = ("오후 2시", "오후 3시", "오후 4시", "오후 5시", "오후 1시 30분", "저녁 6시", "낮 12시")
_HOME_DISHES = ("된장찌개", "잡채", "미역국", "수제비", "부침개", "감자전", "만두", "칼국수", "호박죽", "청국장", "갈비찜", "닭볶음탕", "고사리나물", "비빔국수", "팥죽", "김치찌개", "동그랑땡", "북엇국")
_NO_SEASON = ("어른/사과", "친구/위로", "친구/사과", "친구/축하")  # one comes to the point at once
_SEEN = ("고양이", "강아지", "까치", "참새", "다람쥐", "토끼", "오리", "나비", "제비", "거북이", "사슴", "고슴도치", "부엉이", "백조", "두루미", "수달", "너구리")
_LENT = ("우산", "만화책", "목도리", "장갑", "사진기", "모자", "물병", "돗자리", "색연필", "보온병", "담요", "배낭", "손전등", "그림책")
_MEETING = ("오전 10시", "오전 11시", "오후 2시", "오후 3시", "오후 4시", "오전 9시 30분", "오후 1시 30분")


def _names(rng: random.Random, relation: str, writer: str, parents_only: bool, world) -> dict:
    """to, me and the forms of address."""
    person = pick(rng, {"아이": world.children, "학생": world.students, "어른": world.adults}[writer])
    peers = {"아이": world.children, "학생": world.students, "어른": world.adults}[writer]
    if writer == "어른":  # nobody who might be a grandparent: they have parents to write to, and friends of their age
        while person.age > 54:
            person = pick(rng, world.adults)
        peers = [p for p in peers if p.age <= 54]
    other, friend = pick(rng, peers), pick(rng, peers)
    while other.given in (person.given, friend.given) or friend.given == person.given:
        other, friend = pick(rng, peers), pick(rng, peers)
    names = {"me": person.given, "friend": friend.nick, "to": "", "tovoc": "", "mevoc": person.given + ("이야" if has_final(person.given) else "야"), "sibling": "", "town": person.town}
    if relation == "어른":
        parents = ("어머니", "아버지", "어머니, 아버지") if writer == "어른" else ("엄마", "아빠", "엄마, 아빠")
        names["to"] = pick(rng, parents) if parents_only else pick(rng, ("할머니", "할아버지", "어머니", "아버지", "이모", "외할머니") if writer == "어른" else ("할머니", "할아버지", "이모", "고모", "외할머니", "외할아버지", "삼촌", "큰아버지"))
    elif relation == "선생님":
        names["to"], names["me"] = f"{pick(rng, world.adults).name} 선생님", person.name
    elif relation in ("친구", "동생"):
        names["to"], names["tovoc"] = other.nick, other.voc
        names["sibling"] = pick(rng, ("형", "오빠") if person.gender == "남" else ("누나", "언니"))
        if (names["sibling"] in ("형", "누나")) != (other.gender == "남"):
            names["sibling"] = {"형": "오빠", "오빠": "형", "누나": "언니", "언니": "누나"}[names["sibling"]]
    else:
        names["me"] = person.name
    return names


def _postscript_slots(rng: random.Random, world) -> dict:
    town = pick(rng, world.towns)
    flowers = [plant.name for plant in world.plants if "꽃" in plant.is_a]
    return {
        "town2": town.name, "food": pick(rng, town.foods), "animal": pick(rng, [a for a in world.animals if a.name in _SEEN]).name,
        "thing2": pick(rng, _LENT), "plant": pick(rng, flowers), "job2": pick(rng, world.jobs).name, "dish2": pick(rng, world.dishes).name, "hobby2": pick(rng, world.hobbies).name,
    }  # fmt: skip


def make_letter(rng: random.Random, world) -> Draft:
    """One letter with address, greeting, body, closing and signature."""
    letter = pick(rng, _LETTERS)
    month = pick(rng, letter.seasons) if letter.seasons else rng.randint(1, 12)
    writer = letter.writer if letter.writer != "모두" else weighted(rng, (("아이", 1), ("학생", 2), ("어른", 3)))
    relation, key = letter.relation, f"{letter.relation}/{letter.purpose}"
    day = rng.randint(6, 27) if not letter.seasons else rng.randint(5, 8) if relation == "어른" else rng.randint(12, 15)
    signed = day - (0 if letter.seasons else rng.randint(1, 5))
    slots = _names(rng, relation, writer, bool(letter.seasons) or letter.purpose == "사과", world)
    slots.update(
        date=f"{month}월 {day}일", signed=f"{month}월 {signed}일", date2=f"{month}월 {day - 1}일" if letter.purpose == "회의 안내" else f"{month}월 {min(28, day + rng.randint(5, 9))}일", hour=pick(rng, _VISITS if relation == "친구" else _MEETING),
        dish=pick(rng, _HOME_DISHES) if relation == "어른" else pick(rng, world.dishes).name if chance(rng, 0.5) else pick(rng, DISHES), hobby=pick(rng, HOBBIES) if chance(rng, 0.4) else pick(rng, world.hobbies).name, seatown=pick(rng, SEA_TOWNS), place=pick(rng, pick(rng, (places.PARKS, places.LIBRARIES, places.MARKETS[:5]))), gift=pick(rng, _GIFTS), flower=pick(rng, _FLOWERS),
        home=f"{rng.randint(1, 20)}{rng.randint(1, 6):02d}", team=pick(rng, _TEAMS), who=pick(rng, _SHOPS), boss=f"{pick(rng, world.adults).family} {pick(rng, ('과장', '부장', '팀장', '차장'))}", project=pick(rng, _PROJECTS),
        floor=rng.randint(2, 15), page=rng.randint(3, 120), years=pick(rng, ("오", "칠", "십", "십이", "삼", "팔")), job=pick(rng, world.jobs).name, n=pick(rng, ("백", "오십", "서른", "이백")), thing=pick(rng, _THINGS),
        order=f"{rng.randint(100, 999)}-{rng.randint(1000, 9999)}",
    )  # fmt: skip
    greeting = render(rng, pick(rng, c.GREETINGS.get(key, c.GREETINGS[relation])), slots)
    lines = []
    if relation in c.SEASON_LINES and chance(rng, 0.5):
        fitting = [line for line in c.SEASON_LINES[relation][_SEASONS[month]] if all(month in months for word, months in _WORD_MONTHS if word in line)]
        lines += [pick(rng, fitting)] if fitting and key not in _NO_SEASON else []
    count = min(len(letter.body), weighted(rng, ((3, 2), (4, 4), (5, 3), (6, 1))))
    lines += [render(rng, source, slots) for source in choose_lines(rng, letter.body, count - 1, (0,))]
    if chance(rng, 0.8):
        lines.append(render(rng, pick(rng, letter.ending), slots))
    lines.append(pick(rng, c.CLOSINGS.get(key, c.CLOSINGS[relation])))
    signature = render(rng, pick(rng, c.SIGNATURES.get(key, c.SIGNATURES[relation])), slots)
    if relation in ("어른", "선생님", "친구") and chance(rng, 0.4) and not signature.startswith(slots["signed"]):
        signature = f"{slots['signed']}\n{signature}"
    if relation == "업무" and chance(rng, 0.5):
        subject = f"[{letter.purpose}] {slots['project']}" if "{project" in letter.body[0] else f"{letter.purpose}드립니다" if letter.purpose in ("문의", "사과", "제안") else "그동안 감사했습니다" if letter.purpose == "퇴사 인사" else letter.purpose
        greeting = f"제목: {subject}\n{greeting}"
    body = " ".join(lines) if chance(rng, 0.7) else f"{' '.join(lines[:2])}\n{' '.join(lines[2:])}"
    if relation in c.POSTSCRIPTS and key not in _NO_SEASON and chance(rng, 0.4):
        signature += "\n" + render(rng, pick(rng, c.POSTSCRIPTS[relation]), _postscript_slots(rng, world))
    text = f"{greeting}\n{body}\n{signature}"
    return Draft(text, {"relation": relation, "purpose": letter.purpose, "to": slots["to"], "from": slots["me"], "level": _LEVELS[relation]})


KINDS = {"letter": (make_letter, 7.0)}
