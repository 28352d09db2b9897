"""What an archive remembers from night to night: which content lies where, what came of it, and what that changed.

``catalogue`` knows the files, ``records`` what came of each content, ``recipe`` what results follow from, ``moments``
the events, ``nights`` the journal of each run. ``delta`` and ``figures`` read journals; ``summary`` is the picture of a
night that ``page``, ``telling`` and ``writing`` tell, in the words of ``headline``, ``advice`` and ``words``.
"""
