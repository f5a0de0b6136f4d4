"""Diary entries in plain style: date, weather, one or two scenes of the day, a closing thought.

Truth: ``weather``, ``date``, ``scenes`` (names), ``mood`` (of the last scene told), ``writer`` (아이, 학생, 어른).
"""

from __future__ import annotations

import datetime
import random

from ..content import places
from ..content.diary import SCENES as FIRST_SCENES
from ..content.diary import Scene
from ..content.diary_more import MORE
from ..content.reviews import TITLE_HEADS, TITLE_TAILS
from ..draft import Draft
from ..templates import render
from .phrases import chance, choose_lines, pick, weighted

SCENES = FIRST_SCENES + MORE
_WEEKDAYS = "월화수목금토일"
_FIRST_DAY = datetime.date(2022, 1, 1).toordinal()
# weather -> (months, opening sentences)
_WEATHERS: tuple[tuple[str, tuple[int, ...], tuple[str, ...]], ...] = (
    ("맑음", tuple(range(1, 13)), ("하늘이 [구름 한 점 없이|유난히] 맑았다.", "아침부터 햇살이 [눈부셨다|좋았다].", "[오랜만에|모처럼] 날이 화창했다.", "")),
    ("흐림", tuple(range(1, 13)), ("하루 종일 하늘이 [잔뜩 |]찌푸려 있었다.", "해가 [한 번도|좀처럼] 나오지 않았다.", "구름이 낮게 깔려 있었다.", "")),
    ("비", (3, 4, 5, 6, 7, 8, 9, 10, 11), ("아침부터 비가 [내렸다|왔다].", "빗소리에 잠이 깼다.", "우산을 쓰고 나갔는데도 바지가 젖었다.", "비가 오다 말다 했다.")),
    ("눈", (12, 1, 2), ("밤새 눈이 [왔다|쌓였다].", "눈이 와서 길이 미끄러웠다.", "아침에 보니 지붕마다 눈이 쌓여 있었다.")),
    ("바람", (2, 3, 4, 10, 11, 12), ("바람이 [몹시|세게] 불었다.", "바람 소리에 창문이 덜컹거렸다.", "모자가 날아갈 만큼 바람이 불었다.")),
    ("무더위", (7, 8), ("가만히 있어도 땀이 [흘렀다|줄줄 흘렀다].", "너무 더워서 [아이스크림을|수박을] 먹었다.", "매미 소리에 [귀가 따가웠다|잠이 깼다].")),
    ("추위", (12, 1, 2), ("[손이 시릴|귀가 떨어져 나갈] 만큼 추웠다.", "옷을 겹겹이 껴입고 나갔다.", "입김이 하얗게 나왔다.")),
    ("안개", (3, 4, 9, 10, 11), ("안개가 자욱해서 앞이 보이지 않았다.", "아침 안개가 [짙게|뿌옇게] 끼었다.")),
)  # fmt: skip
_SEASONS = {"개미 관찰": (4, 5, 6, 7, 8, 9), "받아쓰기": (3, 4, 5, 6, 9, 10, 11), "연날리기": (1, 2, 3, 11), "재능 기부": (4, 5, 6, 9, 10), "수행 평가": (4, 5, 6, 9, 10, 11), "봉숭아 물들이기": (7, 8), "마라톤": (3, 4, 5, 10, 11), "연극 연습": (9, 10, 11), "별똥별": (8, 11, 12), "동아리 공연": (5, 6, 9, 10, 11), "도서부 활동": (3, 4, 5, 6, 9, 10, 11), "체육 시간": (4, 5, 6, 9, 10), "벼룩시장": (4, 5, 6, 9, 10), "결혼식": (3, 4, 5, 6, 9, 10, 11), "자전거": (4, 5, 6, 9, 10), "축구": (4, 5, 6, 9, 10), "전학생": (3, 4, 5, 9, 10), "급식": (3, 4, 5, 6, 9, 10, 11, 12), "진로": (3, 4, 5, 6, 9, 10, 11), "수학여행": (4, 5, 10), "김장": (11, 12), "첫눈": (12,), "텃밭": (5, 6, 7), "바닷가": (6, 7, 8), "비 오는 날 우산": (4, 5, 6, 7, 9, 10), "등산": (4, 5, 9, 10, 11), "지각": (3, 4, 5, 6, 9, 10, 11, 12), "시험": (4, 5, 6, 7, 9, 10, 11, 12), "발표": (3, 4, 5, 6, 9, 10, 11, 12), "달리기": (4, 5, 6, 9, 10)}
_WEEKEND = frozenset(("재능 기부", "새벽 시장", "마라톤", "연날리기", "자격증 시험", "집들이", "벼룩시장", "결혼식", "할머니 댁", "바닷가", "등산", "김장", "운전 연습", "봉사"))
_SCHOOLDAY = frozenset(("받아쓰기", "수행 평가", "연극 연습", "은행 일", "동아리 공연", "도서부 활동", "체육 시간", "전학생", "급식", "진로", "수학여행", "지하철", "회식", "시험", "친구와 다툼", "화해", "달리기", "지각", "발표", "비 오는 날 우산", "첫 출근", "야근"))
_DRY = frozenset(("개미 관찰", "연날리기", "재능 기부", "마라톤", "벼룩시장", "자전거", "축구", "길고양이", "등산", "바닷가", "달리기", "텃밭", "봉사", "강아지", "운전 연습"))
_ALONE = frozenset(("재능 기부", "새벽 시장", "마라톤", "봉숭아 물들이기", "별똥별", "정전", "자격증 시험", "집들이", "벼룩시장", "동아리 공연", "할아버지의 이야기", "결혼식", "수학여행", "회식", "야근", "생일", "감기", "잃어버린 물건", "도서관", "텃밭", "첫눈", "이사", "시험", "첫 출근", "야근", "바닷가", "할머니 댁", "김장", "등산", "지각", "비 오는 날 우산"))
_BEGINS_EARLY = frozenset(("감기", "첫눈", "이사", "생일", "지각", "등산", "바닷가"))
_BOOKED = {"별똥별": ("맑음", "무더위", "추위"), "비 오는 날 우산": ("비",), "첫눈": ("눈",)}
_EVENING = (
    "[씻고|이를 닦고] 책상 앞에 앉아 [일기를 쓴다|하루를 돌아본다].", "이제 [그만 |]자야겠다.", "오늘 하루도 [무사히|바쁘게] 지나갔다.", "[창밖에|골목에] 벌써 [가로등이 켜졌다|어둠이 내렸다].", "내일은 [또 어떤|무슨] 일이 있을까.",
    "[졸리다|눈이 감긴다]. 여기까지 써야겠다.", "평범하지만 [좋은|기억하고 싶은] 하루였다.",
)  # fmt: skip
_AND_THEN = ("오늘은 다른 일도 있었다.", "[그리고 |]한 가지 더 적어 둔다.", "[오늘은 |]이런 일도 있었다.", "그리고 기억해 두고 싶은 일이 하나 더 있다.")
SEA_TOWNS = ("강릉", "부산", "속초", "여수", "포항", "통영", "삼척", "제주", "태안", "울진", "동해", "거제")
HOBBIES = ("기타", "수채화", "뜨개질", "요가", "배드민턴", "서예", "합창", "사진", "탁구", "우쿨렐레", "도자기 공예", "수영", "바둑", "캘리그래피", "장구")
DISHES = ("김치볶음밥", "된장찌개", "떡볶이", "달걀말이", "카레", "잡채", "미역국", "수제비", "부침개", "비빔국수", "칼국수", "감자전", "불고기", "만두", "닭볶음탕")


# small things of the day; {"season"} and the like are filled by _little_things
_MORNING = (
    "아침은 {breakfast:으로/로} [든든히|간단히] 먹었다.", "{clock}에 일어나 [맨손 체조를 했다|물을 한 잔 마셨다|이불을 갰다].", "아침에 {small:을/를} 찾느라 온 집 안을 뒤졌다.", "나가는 길에 {meet:을/를} 만나 인사했다.", "길에서 {animal:을/를} 보았다.",
    "{plant:이/가} [한창이다|예쁘게 피었다].", "{spot} 앞을 지나는데 [빵 굽는 냄새가|어디선가 노랫소리가|공사 소리가] 났다.", "버스를 {wait}분이나 기다렸다.", "어젯밤 꿈에 {town2:을/를} [여행했다|걸어 다녔다].",
)  # fmt: skip
_LITTLE = (
    "저녁에는 {supper:을/를} 먹었다.", "{meet:을/를} {spot} 앞에서 우연히 만났다.", "{thing:을/를} [새로 샀다|이웃에게 빌려주었다].", "한동안 찾던 {small:이/가} 서랍에서 나왔다.", "미루던 [청소를|빨래를|설거지를|책상 정리를] 했다.", "시장에서 {crop:을/를} {price}원어치 샀다.",
    "라디오에서 좋아하는 노래가 나와 [따라 불렀다|끝까지 들었다].", "{meet}에게서 오랜만에 연락이 왔다.", "오늘은 모두 {steps}보를 걸었다.", "자기 전에 책을 {page}쪽까지 읽었다.", "텔레비전에서 {town2:을/를} 보여 주었는데 언젠가 가 보고 싶다.",
    "{meet:은/는} 요즘 {hobby2:을/를} 시작했다고 한다.", "한낮 기온이 {temp}도까지 올랐다고 한다.", "{word:이라는/라는} 말이 하루 종일 머릿속을 맴돌았다.", "{dish2} 만드는 법을 [검색해|찾아] 보았다.", "내일은 {spot}에 들러야 한다.", "내일 점심은 {supper:으로/로} 정했다.",
    "{job2:을/를} 다룬 방송을 보았는데 무척 흥미로웠다.", "갑자기 {supper:이/가} 먹고 싶다.", "아는 분이 {town3}에서 사 왔다며 {food3:을/를} [나누어 주었다|맛보라고 건넸다].", "밤에 {animal3:이/가} 나오는 방송을 [넋을 놓고|끝까지] 보았다.", "{feeling3:이라는/라는} 감정에 대해 [한참|잠깐] 생각했다.", "일기를 쓰다가 {town2}에 갔던 날이 생각났다.",
)  # fmt: skip
_BREAKFASTS = ("미역국", "누룽지", "달걀밥", "식빵", "시리얼", "사과 한 알", "김밥", "된장국", "콩나물국", "죽", "고구마", "주먹밥", "북엇국", "요구르트", "떡")
_SMALL = ("수첩", "열쇠고리", "손톱깎이", "옛날 사진", "만년필", "이어폰", "머리끈", "도서 대출증", "손거울", "지우개", "교통 카드", "줄자", "손목시계", "건전지", "반짇고리")
_SEASON_OF = {1: "겨울", 2: "겨울", 3: "봄", 4: "봄", 5: "봄", 6: "여름", 7: "여름", 8: "여름", 9: "가을", 10: "가을", 11: "가을", 12: "겨울"}
_TEMPERATURES = {1: (-2, 6), 2: (1, 9), 3: (7, 15), 4: (13, 22), 5: (19, 27), 6: (24, 30), 7: (26, 34), 8: (27, 36), 9: (22, 29), 10: (15, 23), 11: (7, 15), 12: (-1, 7)}
_SEEN = ("까치", "참새", "길고양이", "비둘기", "다람쥐", "고추잠자리", "나비", "강아지")
_SEEN_IN = {"다람쥐": "봄여름가을", "고추잠자리": "가을", "나비": "봄여름가을"}
_VEGETABLES = ("콩나물", "시금치", "감자", "양파", "버섯", "고구마", "오이", "대파", "호박", "상추", "무", "당근", "깻잎", "고추", "쑥갓", "부추")
_CROPS = ("귤", "고등어", "두부", "콩나물", "시금치", "사과", "감자", "달걀", "양파", "버섯", "고구마", "딸기", "오이", "멸치", "대파", "호박")


def _little_things(rng: random.Random, world, date: datetime.date, writer: str) -> tuple[list[str], list[str]]:
    """(what happened in the morning, what is told at the end)."""
    season, person = _SEASON_OF[date.month], pick(rng, world.adults)
    flowers = [plant.name for plant in world.plants if season in plant.season and "꽃" in plant.is_a]
    seen = [name for name in _SEEN if season in _SEEN_IN.get(name, season)]
    low, high = _TEMPERATURES[date.month]
    slots = {
        "dish2": pick(rng, world.dishes).name, "breakfast": pick(rng, _BREAKFASTS), "supper": pick(rng, DISHES), "small": pick(rng, _SMALL), "spot": pick(rng, pick(rng, (places.PARKS, places.LIBRARIES, places.MARKETS, places.HALLS))), "clock": f"{pick(rng, ('여섯', '일곱', '여덟'))} 시{pick(rng, ('', ' 반'))}", "thing": pick(rng, world.things).name,
        "crop": pick(rng, _CROPS), "price": f"{rng.randint(2, 15) * 1000:,}", "animal": pick(rng, seen), "plant": pick(rng, flowers) if flowers else "", "wait": rng.randint(8, 35), "steps": f"{rng.randint(3000, 19000):,}", "page": rng.randint(10, 260),
        "town3": (town3 := pick(rng, world.towns)).name, "food3": pick(rng, town3.foods), "animal3": pick(rng, world.animals).name, "feeling3": pick(rng, world.feelings).name,
        "hobby2": pick(rng, world.hobbies).name, "job2": pick(rng, world.jobs).name, "town2": pick(rng, world.towns).name, "temp": rng.randint(low, high), "word": f"‘{pick(rng, world.words).name}’",
        "meet": f"옛 친구 {person.nick}" if writer == "어른" and chance(rng, 0.4) else f"{person.family} 선생님" if writer != "어른" else f"이웃 {person.name} 씨",
    }  # fmt: skip
    morning = [s for s in _MORNING if "{plant" not in s or flowers]
    before = [render(rng, pick(rng, morning), slots)] if chance(rng, 0.35) else []
    slots.update(spot=pick(rng, places.PARKS + places.LIBRARIES), town2=pick(rng, world.towns).name)
    later = [s for s in _LITTLE if "시장" not in s or writer == "어른"]
    return before, [render(rng, source, slots) for source in rng.sample(later, weighted(rng, ((0, 4), (1, 5), (2, 2))))]


def _teller(rng: random.Random, world) -> tuple[str, dict]:
    writer = weighted(rng, (("아이", 3), ("학생", 3), ("어른", 4)))
    person = pick(rng, {"아이": world.children, "학생": world.students, "어른": world.adults}[writer])
    peers = {"아이": world.children, "학생": world.students, "어른": world.adults}[writer]
    friend = world.relation(person, "친구") or pick(rng, peers)
    dog = person.pet_name if person.pet == "강아지" else pick(rng, ("초코", "보리", "콩이", "구름이", "복실이", "두부", "바둑이", "해피"))
    slots = {
        "friend": friend.nick if writer != "어른" else f"{friend.given} {'씨' if chance(rng, 0.5) else '선배'}" if chance(rng, 0.4) else friend.nick,
        "pet": dog, "dish": pick(rng, DISHES), "town": person.town, "seatown": pick(rng, SEA_TOWNS), "hobby": pick(rng, HOBBIES) if chance(rng, 0.5) else pick(rng, world.hobbies).name, "book": f"《{pick(rng, TITLE_HEADS)} {pick(rng, TITLE_TAILS)}》",
        "page": rng.randint(3, 9) * 10, "n": pick(rng, ("다섯", "여섯", "일곱", "여덟", "열", "열두", "스무")), "few": pick(rng, ("두", "세", "네")), "fever": f"{rng.randint(375, 392) / 10:.1f}", "cabbages": rng.randint(2, 9) * 10,
        "crop": (crops := rng.sample(_VEGETABLES, 2))[0], "crop2": crops[1], "film": f"《{pick(rng, TITLE_HEADS)} {pick(rng, TITLE_TAILS)}》", "dish2": pick(rng, ("갈비탕", "잡채", "잔치국수", "육회", "떡")), "meters": rng.randint(1, 8) * 25,
        "newname": pick(rng, world.children).given, "job": pick(rng, world.jobs).name, "family": "아내" if person.gender == "남" else "남편",
    }  # fmt: skip
    return writer, slots


def _tell(rng: random.Random, scene: Scene, slots: dict) -> list[str]:
    count = min(len(scene.middle), weighted(rng, ((2, 2), (3, 4), (4, 4), (5, 2))))
    sources = [pick(rng, scene.first), *choose_lines(rng, scene.middle, count), *([pick(rng, scene.last)] if chance(rng, 0.9) else [])]
    return [render(rng, source, slots) for source in sources]


def _fits(scene: Scene, writer: str, date: datetime.date, weather: str) -> bool:
    if scene.who not in ("모두", writer) or (scene.name in _SEASONS and date.month not in _SEASONS[scene.name]):
        return False
    weekend = date.weekday() >= 5
    holidays = date.month in (1, 8) or (date.month == 12 and date.day > 23) or (date.month == 2 and date.day > 10) or (date.month == 7 and date.day > 24)
    if (scene.name in _WEEKEND and not weekend) or (scene.name in _SCHOOLDAY and (weekend or (writer != "어른" and holidays))):
        return False
    if scene.name in _BOOKED:
        return weather in _BOOKED[scene.name]
    return not (scene.name in _DRY and weather in ("비", "눈"))


def _header(rng: random.Random, date: datetime.date, weather: str) -> str:
    weekday = _WEEKDAYS[date.weekday()]
    return pick(rng, (
        f"{date.year}년 {date.month}월 {date.day}일 {weekday}요일, 날씨: {weather}", f"{date.month}월 {date.day}일 {weekday}요일 {weather}", f"{date.month}월 {date.day}일 ({weekday}) {weather}",
        f"{date.year}. {date.month}. {date.day}. {weekday}요일. {weather}", f"날짜: {date.month}월 {date.day}일 {weekday}요일\n날씨: {weather}",
    ))  # fmt: skip


def make_diary(rng: random.Random, world) -> Draft:
    """One day of five to sixteen sentences."""
    writer, slots = _teller(rng, world)
    while True:
        date = datetime.date.fromordinal(_FIRST_DAY + int(rng.random() * 1700))
        weather, months, openings = pick(rng, _WEATHERS)
        if date.month not in months:
            continue
        scenes = [scene for scene in SCENES if _fits(scene, writer, date, weather)]
        if scenes:
            break
    scene = pick(rng, scenes)
    at_school = writer != "어른" and date.weekday() < 5 and date.month not in (1, 8)
    slots["outside"] = "학교에서" if at_school else "밖에서" if writer != "어른" else pick(rng, ("밖에서", "일을 마치고"))
    slots["shopper"] = f"{slots['family']}와".replace("남편와", "남편과") if writer == "어른" else "어머니와"
    slots["seen"] = pick(rng, ("낙엽", "비둘기") if date.month in (10, 11) else ("나비", "비둘기") if date.month in (4, 5, 6, 7, 8, 9) else ("비둘기", "까치", "눈사람" if weather == "눈" else "참새"))
    told = [scene]
    if scene.name not in _ALONE and chance(rng, 0.25):
        others = [s for s in scenes if s.name not in _ALONE and s.name != scene.name and {s.name, scene.name} != {"친구와 다툼", "화해"}]
        told += [pick(rng, others)] if others else []
    lines = []
    opening = render(rng, pick(rng, openings), slots)
    if opening and chance(rng, 0.6) and scene.name not in ("첫눈", "비 오는 날 우산", "감기"):
        lines.append(opening)
    before, later = _little_things(rng, world, date, writer)
    if scene.name not in _BEGINS_EARLY:
        lines += before
    lines += _tell(rng, scene, slots)
    if len(told) > 1:
        lines.append(render(rng, pick(rng, _AND_THEN), slots))
        lines += _tell(rng, told[1], slots)
    if scene.name != "감기":
        lines += later
    if chance(rng, 0.35):
        lines.append(render(rng, pick(rng, _EVENING), slots))
    title = f"제목: {scene.name}\n" if writer == "아이" and chance(rng, 0.3) else ""
    text = f"{_header(rng, date, weather)}\n{title}{' '.join(lines)}"
    return Draft(text, {"date": date.isoformat(), "weather": weather, "writer": writer, "scenes": [s.name for s in told], "mood": told[-1].mood})


KINDS = {"diary": (make_diary, 8.0)}
