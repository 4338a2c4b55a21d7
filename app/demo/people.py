"""The ten users of the demo: the field crew of a river survey that does not exist."""

Json = dict[str, object]


def people() -> list[Json]:
    """All users, by id from 1."""
    return [
        _person(1, "Marit Alderson", "marit", "4 Ferry Steps", "Boathouse", "Alderwick",
                (58.9701, 5.7331), "Alder Gauging Works", "Every drop has a number",
                "reads gauges before breakfast"),
        _person(2, "Tobias Reed", "treed", "17 Weir Lane", "Flat 2", "Brindle Bridge",
                (54.5742, -1.2350), "Reed & Daughters Hydrology", "Slow water, quick answers",
                "repairs loggers in the rain"),
        _person(3, "Ines Caldeira", "ines.c", "9 Millrace Row", "Loft", "Caldbeck",
                (41.1496, -8.6109), "Caldeira Sluices", "We know when to let go",
                "balances gates by ear"),
        _person(4, "Jonah Okafor", "jokafor", "230 Delta Road", "Suite 12", "Port Dunmere",
                (4.8156, 7.0498), "Dunmere Delta Survey", "Where the map ends, we begin",
                "charts channels that move"),
        _person(5, "Saoirse Eames", "saoirse", "1 Eelgate", "Cottage", "Esker Ford",
                (53.2707, -9.0568), "Esker Fish Counts", "We ask the salmon",
                "counts eels by moonlight"),
        _person(6, "Kenji Fallow", "kfallow", "62 Cedar Ghyll", "Hut B", "Fallowmere",
                (36.5613, 137.6563), "Fallow Snowmelt Forecasts", "Spring, on schedule",
                "weighs snow for a living"),
        _person(7, "Greta Holm", "gretaholm", "88 Lock Terrace", "Unit 5", "Gransund",
                (57.7089, 11.9746), "Holm Lock & Barge", "Up in the world, gently",
                "keeps seven locks in step"),
        _person(8, "Amadou Harrow", "aharrow", "31 Heron Walk", "Apt 8", "Harrow Falls",
                (14.6937, -17.4441), "Harrow Turbine Care", "Quiet power, loud water",
                "listens to bearings"),
        _person(9, "Lucia Ibarra", "lucia.i", "5 Spring Alley", "Workshop", "Ivelmouth",
                (43.2630, -2.9350), "Ibarra Field Instruments", "Calibrated twice, trusted always",
                "builds probes that float"),
        _person(10, "Peder Juniper", "pjuniper", "12 Meeting Square", "Room 40", "Junction Hythe",
                (55.6761, 12.5683), "The Confluence Office", "All streams lead here",
                "turns ten notebooks into one"),
    ]  # fmt: skip


def _person(
    id: int,
    name: str,
    username: str,
    street: str,
    suite: str,
    city: str,
    place: tuple[float, float],
    company: str,
    motto: str,
    trade: str,
) -> Json:
    domain = f"{city.lower().replace(' ', '-')}.example"
    return {
        "id": id,
        "name": name,
        "username": username,
        "email": f"{username}@{domain}",
        "address": {
            "street": street,
            "suite": suite,
            "city": city,
            "zipcode": f"{10_000 + 137 * id}",
            "geo": {"lat": f"{place[0]:.4f}", "lng": f"{place[1]:.4f}"},
        },
        "phone": f"555-01{id:02}",
        "website": domain,
        "company": {"name": company, "catchPhrase": motto, "bs": trade},
    }
