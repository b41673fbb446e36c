"""What goes home to the clinic: channels, receipts."""
