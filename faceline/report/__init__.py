"""The results folder: tables, plots, the HTML page, pictures of the faces, and the words on the console.

``findings`` joins the stages' tables once; ``tables``, ``plots`` and ``page`` show them; ``stage`` declares the stage;
``leaderboard`` ranks the trials, ``reasons`` says why a face has no score, ``words`` says things the same everywhere;
``results`` puts a whole results folder in place; ``summary`` words the end of a run.
"""
