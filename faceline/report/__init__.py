"""The results folder: tables, plots, the HTML page, pictures of the faces, and the words on the console.

``findings`` joins the stages' tables once; ``tables``, ``plots`` and ``page`` show them; ``stage`` declares the stage;
``results`` puts a whole results folder in place; ``summary`` words the end of a run.
"""
