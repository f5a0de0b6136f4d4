"""Week 5's lab on several processes: trials in processes of their own, what they hold and send, plots."""
