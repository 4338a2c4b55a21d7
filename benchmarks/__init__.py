"""What an overview costs in this service, compared with the code of a tutorial."""
