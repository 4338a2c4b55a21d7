"""The posts and todos of the demo: ten posts and twenty todos for each user, about a river each.

Each text is a phrase with the river's name in it. Which phrases are combined follows from the ids
alone, so every process serves the same data.
"""

from app.demo.people import Json

_RIVERS = (
    "Alder", "Brindle", "Caldbeck", "Dunmere", "Esker",
    "Fallow", "Gransund", "Harrow", "Ivel", "Juniper",
)  # fmt: skip

_NOTES = (
    ("First light on the {river}", "The mist lifted at six and the {river} was four fingers low."),
    ("A gauge that would not settle", "The float on the {river} was sitting on a crayfish."),
    ("Where the {river} turns", "The outer bank gave up another metre since the last survey."),
    ("Notes after the storm", "The {river} peaked at dusk, an hour later than the model said."),
    ("The bridge at low water", "You can read the mason's mark under the {river} bridge again."),
    ("Sampling day", "Twelve bottles from the {river}, twelve labels, and for once twelve lids."),
    ("A visitor from upstream", "An otter inspected our boat on the {river} and found it wanting."),
    ("What the logger missed", "Nine minutes are missing from the {river} record. I was there."),
    ("New stones in the riffle", "The {river} has moved its own furniture around over the winter."),
    ("Before the {river} meets the rest", "Two colours run side by side here, and then only one."),
)

_REMARKS = (
    "The readings are in the shared notebook, with a sketch.",
    "Nothing to worry about, but worth a second look in spring.",
    "If you pass by with a long tape, please measure it again.",
    "The heron did not approve and said so.",
    "I have marked the spot with a blue ribbon on the willow.",
    "Tea was had. The kettle is now part of the standard kit.",
    "It agrees with the station downstream to within a centimetre.",
)

_CHORES = (
    "Clean the staff gauge at the {river} bridge",
    "Change the batteries of the upper logger",
    "Walk the {river} from the weir to the ford",
    "Return the long waders to the boathouse",
    "Check the clock of the {river} station against GPS",
    "Order twelve sample bottles, with lids this time",
    "Photograph the gravel bar from the same three stones",
    "Ask the miller when the {river} gate was last opened",
    "Grease the winch",
    "Measure the flow below the second riffle",
    "Send last month's {river} table to the office",
    "Replace the rope on the ferry post",
    "Calibrate the turbidity probe",
    "Trim the willow in front of the {river} camera",
    "Write up the flood marks while they still show",
    "Count the eels at the {river} trap",
    "Patch the small boat",
    "Repaint the zero line",
    "Compare the {river} forecast with what came",
    "Bring a cake to the confluence meeting",
)


def posts() -> list[Json]:
    """A hundred posts, ten a user."""
    return [
        {
            "userId": user,
            "id": (user - 1) * len(_NOTES) + number + 1,
            "title": title.format(river=river),
            "body": f"{text.format(river=river)}\n{_REMARKS[(3 * user + number) % len(_REMARKS)]}",
        }
        for user, river in enumerate(_RIVERS, start=1)
        for number, (title, text) in enumerate(_NOTES)
    ]


def todos() -> list[Json]:
    """Two hundred todos, twenty a user, two in five of them done."""
    return [
        {
            "userId": user,
            "id": (user - 1) * len(_CHORES) + number + 1,
            "title": chore.format(river=river),
            "completed": (3 * user + 7 * number) % 5 < 2,
        }
        for user, river in enumerate(_RIVERS, start=1)
        for number, chore in enumerate(_CHORES)
    ]
