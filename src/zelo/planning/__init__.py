"""What judging will take, before a call is paid (`zelo plan`)."""
