"""What makes the labs a course: exercises that grade themselves, quizzes, and the progress of a participant."""
