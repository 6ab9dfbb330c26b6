import numpy as np

from golem_ray.data.groups import joined_groups


def test_groups_that_share_a_clip_are_one():
    joined = joined_groups(np.array([0, 0, 1, 2, 3]), np.array([9, 8, 8, 7, 7]))
    assert len(set(joined[:3])) == len(set(joined[3:])) == 1
    assert joined[0] != joined[3]
