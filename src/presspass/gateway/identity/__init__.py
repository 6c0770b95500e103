"""Who somebody is: people's sign-in, their sessions and roles, and terminals that wait for a signed-in person.

A session lets its holder look and ask. Nothing in here can approve: that takes a roster key's signature over a
statement, which is made elsewhere and counted by the press alone.
"""
