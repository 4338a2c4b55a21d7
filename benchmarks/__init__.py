"""What an overview costs here, beside what it costs in the tutorial's way of writing it."""
